"""Ways of splitting text before byte-level BPE, by the names that llama.cpp has for them (``tokenizer.ggml.pre``).

llama.cpp holds a fixed list of patterns in its code, so a tokenizer is recognised here by its pattern, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmgraft.errors import Problem, UserError

__all__ = ["is_byte_level", "pre_of"]

_CASED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UNCASED = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"
_BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"
_DIGITS = "[0-9][0-9][0-9]"

_GPT2 = ("ByteLevel", True)
_BYTES = ("ByteLevel", False)


def _split(pattern: str) -> tuple[Any, ...]:
    return ("Split", pattern, "Isolated", False)


#: What the pre-tokenizer consists of, and whether words that are tokens are taken whole -> llama.cpp's name.
KNOWN: Mapping[tuple[tuple[Any, ...], bool], str] = {
    ((_GPT2,), False): "gpt-2",
    **{((_split(start + _LLAMA3), _BYTES), True): "llama-bpe" for start in (_CASED, _UNCASED)},
    **{((_split(start + _LLAMA3), _BYTES), False): "smaug-bpe" for start in (_CASED, _UNCASED)},
    **{((_split(start + _QWEN2), _BYTES), False): "qwen2" for start in (_CASED, _UNCASED)},
    ((("Digits", True), _GPT2), False): "starcoder",
    ((("Punctuation", "Contiguous"), _GPT2, ("Digits", False), _split(_DIGITS)), False): "falcon",
    ((_split(_BLOOM), _BYTES), False): "bloom",
}


def is_byte_level(content: Mapping[str, Any]) -> bool:
    """Whether pieces are bytes: SentencePiece's BPE has no pre-tokenizer that makes them so."""
    return any(step.get("type") == "ByteLevel" for step in _steps(content))


def pre_of(folder: Path, content: Mapping[str, Any]) -> str:
    """:raises UserError: llama.cpp has no name for this way of splitting."""
    model = content["model"]
    fact = f"{folder / 'tokenizer.json'} splits text in a way that llama.cpp has no name for"
    remedy = "train with tokenizer byte_bpe (pattern gpt2, llama3 or qwen2), or lmgraft export hf"
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise UserError(Problem(fact, f"its BPE sets {name}, which llama.cpp's has not", remedy))
    normalizer = content.get("normalizer")
    pre = KNOWN.get((tuple(_shape(step) for step in _steps(content)), bool(model.get("ignore_merges"))))
    if pre is None:
        names = ", ".join(dict.fromkeys(KNOWN.values()))
        raise UserError(Problem(fact, f"its pre-tokenizer is none of those of {names}", remedy))
    # Qwen's own files compose letters and marks (NFC), which llama.cpp leaves out; nearly all text is composed.
    if normalizer is not None and not (pre == "qwen2" and normalizer.get("type") == "NFC"):
        raise UserError(Problem(fact, f"it normalises text ({normalizer.get('type')}), and llama.cpp does not", remedy))
    return pre


def _steps(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    pre = content.get("pre_tokenizer")
    if pre is None:
        return []
    return list(pre["pretokenizers"]) if pre.get("type") == "Sequence" else [pre]


def _shape(step: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a step decides where text is split; a space put before a text is nothing that llama.cpp would do here."""
    kind = step.get("type")
    if kind == "ByteLevel":
        return (kind, bool(step.get("use_regex", True))) if not step.get("add_prefix_space") else (kind, "prefix")
    if kind == "Split":
        pattern = step.get("pattern") or {}
        return (kind, pattern.get("Regex", pattern.get("String")), step.get("behavior"), bool(step.get("invert")))
    if kind == "Digits":
        return (kind, bool(step.get("individual_digits")))
    return (kind, step.get("behavior"))
