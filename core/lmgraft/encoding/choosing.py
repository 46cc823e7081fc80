"""Which library encodes a corpus: what was asked for, where its ids are the reference's."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from lmgraft.artifacts.tokenizer import CONFIG, SavedTokenizer
from lmgraft.encoding.batches import document_id
from lmgraft.encoding.checking import AWKWARD, Differs, Excerpt, compare, excerpts
from lmgraft.encoding.engines import Engine, Gigatoken, Reference, Unusable
from lmgraft.errors import Problem, UserError
from lmgraft.seams.stage import StageContext
from lmgraft.seams.tokenizer import TextTokenizer
from lmgraft.stages.encoders import Encoder

__all__ = ["choose", "reason", "reference_of", "refusal"]


def choose(
    context: StageContext, encoder: Encoder, saved: TextTokenizer, reference: Reference, splits: dict[str, int]
) -> Engine:
    """The library for this corpus, with a line about it; ``splits`` gives the bytes of text of each.

    :raises UserError: gigatoken was asked for and cannot be taken.
    """
    if encoder is Encoder.tokenizers:
        return reference
    folder = context.inputs["corpus"][0].path
    try:
        if not isinstance(saved, SavedTokenizer):
            raise Unusable("the tokenizer is read by its own part")
        engine = Gigatoken(saved)
        found = excerpts(folder, list(splits), sum(splits.values()))
        compare(reference, engine, [*(Excerpt("", -1, text) for text in AWKWARD), *found])
    except (Unusable, Differs) as error:
        if encoder is Encoder.gigatoken:
            raise UserError(refusal(context, error)) from error
        context.note(f"{context.name}: encoding with tokenizers; gigatoken: {reason(folder, error)}")
        return reference
    told = f"its ids are those of tokenizers on {len(found)} documents of the corpus"
    context.note(f"{context.name}: encoding with gigatoken {version('gigatoken')}; {told}")
    return engine


def reason(folder: Path, error: Unusable | Differs) -> str:
    """Why gigatoken is not taken, in a few words."""
    if isinstance(error, Unusable):
        return str(error)
    if not error.split:
        return f"it gives other ids than tokenizers for unusual characters (from token {error.token} of a test)"
    name = document_id(folder, error.split, error.document)
    return (
        f"it gives other ids than tokenizers for document {name!r} of split {error.split}, from token {error.token} on"
    )


def refusal(context: StageContext, error: Unusable | Differs) -> Problem:
    """The same for who asked for it."""
    folder = context.inputs["corpus"][0].path
    remedy = f"{context.name}.encoder=auto, which falls back to tokenizers, or {context.name}.encoder=tokenizers"
    return Problem(f"{context.name}.encoder: gigatoken cannot encode this corpus", reason(folder, error), remedy)


def reference_of(saved: TextTokenizer, folder: Path) -> Reference:
    """The reference, which names the part behind a tokenizer in its messages."""
    part = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("lmgraft_tokenizer")
    return Reference(saved, f"the tokenizer {part}" if part else f"the tokenizer in {folder}")
