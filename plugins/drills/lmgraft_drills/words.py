"""The words that tasks are made of: plain English and Python's own vocabulary, none twice."""

from __future__ import annotations

__all__ = ["WORDS"]

WORDS = tuple(
    """
    argument array attribute base binary block branch buffer button byte cache call case cell chain chapter class clock
    code column command comment copy count cycle data date decimal default delta device digit directory document door
    element engine entry error event example field file filter flag float flower folder format frame function garden
    generator group handle header heap hook house image import index input instance integer island iterator key label
    lambda language layer length letter level library line link list lock loop machine map mark memory message method
    mirror mode module mountain name network node note number object ocean operator option order output package page
    paper parent part path pattern pencil picture pipe place plan point pool port prefix process product program
    property queue range reader record register request result return river road root row rule sample scale school
    screen script section sequence server set shape shell signal slice socket song sort source space stack stage
    state station stream street string structure summer symbol system table tag task template term test text thread
    ticket time title token tool track tree tuple type unit user value variable vector version village wall water
    weather width window winter word worker writer yield zone
    """.split()  # noqa: SIM905 - two hundred words read better so than one a line
)
