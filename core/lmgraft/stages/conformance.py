"""Holds core's own kinds of stage to the stages' contract, as a third party's are."""

from __future__ import annotations

from typing import Any, ClassVar

from lmgraft.testing.stage import StageSuite

__all__ = [
    "TestCorpus",
    "TestEvaluate",
    "TestExport",
    "TestMerge",
    "TestScore",
    "TestTokenizer",
    "TestTokens",
    "TestTokensOfRows",
    "TestTrain",
]

_SMALL = {"hidden": 16, "layers": 1, "heads": 2, "kv_heads": 2, "mlp": 32, "context": 32}


class TestCorpus(StageSuite):
    component = "corpus"
    settings: ClassVar[dict[str, Any]] = {
        "workers": 1,
        "validation_bytes": 2000,
        "filters": {"length": {"min_chars": 9}},
    }
    parts: ClassVar[dict[str, Any]] = {"filters": ["length", "exact_dedup"]}


class TestTokenizer(StageSuite):
    component = "tokenizer"
    settings: ClassVar[dict[str, Any]] = {"tokenizer": {"vocab_size": 300}}


class TestTokens(StageSuite):
    component = "tokens"


class TestTokensOfRows(StageSuite):
    component = "tokens"
    parts: ClassVar[dict[str, Any]] = {"objective": "sft"}
    rows = "messages"


class TestTrain(StageSuite):
    component = "train"
    settings: ClassVar[dict[str, Any]] = {"steps": 3, "batch": 2, "seq_len": 32, "architecture": _SMALL}
    parts: ClassVar[dict[str, Any]] = {"architecture": "llama", "initializer": "normal"}
    rounding = ("micro_batch", "compile")


class TestMerge(StageSuite):
    component = "merge"
    settings: ClassVar[dict[str, Any]] = {"merge": {"drop": 2}}


class TestScore(StageSuite):
    component = "score"
    parts: ClassVar[dict[str, Any]] = {"objective": "dpo"}
    rows = "pairs"
    rounding = ("micro_batch",)


class TestEvaluate(StageSuite):
    component = "evaluate"
    settings: ClassVar[dict[str, Any]] = {"limit": 3, "sample": {"prompts": ["the"], "max_new_tokens": 4}}


class TestExport(StageSuite):
    component = "export"
    settings: ClassVar[dict[str, Any]] = {"name": "small", "license": "apache-2.0", "languages": ["en"]}
