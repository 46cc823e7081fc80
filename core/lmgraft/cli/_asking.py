"""Options of every command that lets a model write, and their checks."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from lmgraft.errors import Problem
    from lmgraft.seams.parallelism import Sampling

__all__ = ["DEVICES", "PRECISIONS", "bad_place", "check", "loading_options", "sampling_of", "sampling_options"]

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("float32", "bfloat16", "int8", "auto")

_SETTING = re.compile(r"(?<![\w.-])(device|precision|template)=(\w+)")

Command = TypeVar("Command", bound=Callable[..., Any])
Given = ParamSpec("Given")
Done = TypeVar("Done")


def sampling_options(command: Command) -> Command:
    """How tokens are drawn and what ends a text; :func:`sampling_of` makes a Sampling of the values."""
    for option in reversed(_SAMPLING):
        command = option(command)
    return command


def loading_options(command: Callable[Given, Done]) -> Callable[Given, Done]:
    """Where and how the model is held, and by which template it is asked."""
    command = _in_options(command)
    for option in reversed(_LOADING):
        command = option(command)
    return command


def _in_options(command: Callable[Given, Done]) -> Callable[Given, Done]:
    """What the library tells to set, ``device=cpu``, is an option here: ``--device cpu``."""

    @functools.wraps(command)
    def call(*args: Given.args, **values: Given.kwargs) -> Done:
        from lmgraft.errors import Problem, UserError

        try:
            return command(*args, **values)
        except UserError as error:
            texts = ((one.fact, one.cause, one.remedy) for one in error.problems)
            raise UserError(
                [Problem(*(_SETTING.sub(r"--\1 \2", text) for text in three)) for three in texts]
            ) from error

    return call


def sampling_of(values: dict[str, Any], stop_ids: Sequence[int]) -> Sampling:
    """The Sampling of checked values."""
    from lmgraft.seams.parallelism import Sampling

    names = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed")
    return Sampling(stop_ids=tuple(stop_ids), **{name: values[name] for name in names})


def check(values: dict[str, Any]) -> None:
    """:raises UserError: all values of :func:`sampling_options` and :func:`loading_options` that cannot be."""
    from lmgraft.errors import UserError

    v = values
    rules = [
        (v["max_new_tokens"] >= 1, "--max-new-tokens", "it must be at least 1", "--max-new-tokens 128"),
        (
            0 <= v["temperature"] < float("inf"),
            "--temperature",
            "it must be at least 0",
            "--temperature 0.8; 0 is greedy",
        ),
        (v["top_k"] >= 0, "--top-k", "it must be at least 0", "--top-k 50; 0 is off"),
        (0 < v["top_p"] <= 1, "--top-p", "it must be above 0 and at most 1", "--top-p 0.95; 1 is off"),
        (
            0 < v["repetition_penalty"] < float("inf"),
            "--repetition-penalty",
            "it must be above 0",
            "--repetition-penalty 1.1; 1 is off",
        ),
        (0 <= v["seed"] < 2**63, "--seed", "it must be at least 0 and below 2**63", "--seed 0"),
        (all(v["stop"]), "--stop", "an empty text cannot end one", r"--stop '###'; \n is a new line: --stop $'\n'"),
    ]
    bad = [_problem(values, name, cause, remedy) for fine, name, cause, remedy in rules if not fine]
    bad += bad_place(values)
    if bad:
        raise UserError(bad)


def bad_place(values: dict[str, Any]) -> list[Problem]:
    """What cannot be among the values of :func:`loading_options`."""
    allowed = (("--device", DEVICES), ("--precision", PRECISIONS))
    return [
        _problem(values, name, f"it is {', '.join(those[:-1])} or {those[-1]}", f"{name} {those[0]}")
        for name, those in allowed
        if values[name[2:]] not in those
    ]


def _problem(values: dict[str, Any], name: str, cause: str, remedy: str) -> Problem:
    from lmgraft.errors import Problem

    value = values[name[2:].replace("-", "_")]
    return Problem(f"{name} {value if not isinstance(value, tuple) else repr('')}", cause, remedy)


_SAMPLING = (
    click.option("--max-new-tokens", default=128, show_default=True, help="Tokens at most."),
    click.option("--temperature", default=0.8, show_default=True, help="0 is greedy."),
    click.option("--top-k", default=0, show_default=True, help="Only the k likeliest tokens; 0 is off."),
    click.option(
        "--top-p", default=0.95, show_default=True, help="Only the likeliest tokens of this total probability."
    ),
    click.option(
        "--repetition-penalty",
        default=1.0,
        show_default=True,
        help="Above 1, tokens that the prompt or the text holds become less likely; 1 is off.",
    ),
    click.option("--seed", default=0, show_default=True, help="The same seed draws the same text."),
    click.option(
        "--stop",
        multiple=True,
        metavar="TEXT",
        help="Ends the text where it begins; may be given several times. The model's own end tokens end it anyway.",
    ),
)
_LOADING = (
    click.option("--template", metavar="NAME", help="A chat template in place of the model's: solar, alpaca, chatml."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps."),
    click.option(
        "--precision",
        default="float32",
        show_default=True,
        help="float32, bfloat16, int8 (the projections' weights, a quarter of the memory) or auto (bfloat16 where the "
        "machine multiplies it natively).",
    ),
)
