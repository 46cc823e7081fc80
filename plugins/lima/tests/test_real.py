"""Real rows: Alpaca, CodeAlpaca, GPTeacher, BELLE, Dolly, ShareGPT, and answers that a judge has scored."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import lmgraft
import pytest
from lmgraft.artifacts import corpus
from lmgraft.stages import corpus as corpus_stage

DATA = os.environ.get("LMGRAFT_TEST_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set")

#: File -> the keys of what is asked and what is answered, None for ShareGPT's conversations.
FILES = {
    "instruct/alpaca_en": ("instruction", "output"),
    "instruct/alpaca_zh": ("instruction", "output"),
    "instruct/belle_eval_set_zh": ("question", "std_answer"),
    "instruct/code_alpaca_2k": ("instruction", "output"),
    "instruct/gpteacher_codegen": ("instruction", "response"),
    "instruct/gpteacher_roleplay": ("instruction", "response"),
    "instruct/dolly_hhrlhf": ("prompt", "response"),
    "instruct/sharegpt_zh_1k": None,
    "preference/alpaca_eval_judgements_b": ("instruction", "output_2"),
}
#: The judge's preference lies between 1 (for the other answer) and 2 (for this one): the only score in these files.
SETTINGS: dict[str, Any] = {"min_chars": 100, "score": "preference", "min_score": 1.5, "quota": 400, "examples": 1000}
REASONS = {
    "no_answer", "too_short", "too_long", "first_person", "cross_reference", "answer_format", "low_score", "over_quota",
    "duplicate_prompt", "not_chosen",
}  # fmt: skip


@cache
def real() -> dict[str, list[dict[str, Any]]]:
    return {name: [_row(row, keys) for row in _read(name)] for name, keys in FILES.items()}


def _read(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(Path(DATA or "") / f"{name}.jsonl.gz", "rt", encoding="utf-8", newline="\n") as lines:
        yield from map(json.loads, lines)


def _row(row: dict[str, Any], keys: tuple[str, str] | None) -> dict[str, Any]:
    if keys is None:
        roles = {"human": "user", "gpt": "assistant", "system": "system"}
        return {"messages": [{"role": roles[m["from"]], "content": m["value"]} for m in row["conversations"]]}
    asked = "\n\n".join(filter(None, (row[keys[0]], row.get("input"))))
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": row[keys[1]]}]
    return {"messages": messages, **({"preference": row["preference"]} if "preference" in row else {})}


def selected(
    folder: Path, workers: int = 1, mixed: int | None = None, **settings: Any
) -> tuple[Counter[str], dict[str, int]]:
    """(the chats that stay, how many were dropped for each reason) of a corpus stage; ``mixed`` shuffles the rows."""
    (folder / "rows").mkdir(parents=True)
    for name, rows in real().items():
        lines = [json.dumps(row) for row in rows]
        if mixed is not None:
            random.Random(mixed).shuffle(lines)
        (folder / "rows" / f"{Path(name).name}.jsonl").write_text("".join(line + "\n" for line in lines))
    recipe = {
        "defaults": [
            "base", {"stage@chats": "corpus"}, {"data_source@chats.sources": ["files"]},
            {"filter@chats.filters": ["lima"]}, "_self_",
        ],
        "stages": ["chats"],
        "chats": {
            "sources": {"files": {"path": str(folder / "rows"), "rows": "messages"}},
            "filters": {"lima": {**SETTINGS, **settings}},
        },
    }  # fmt: skip
    (folder / "chats.yaml").write_text(json.dumps(recipe))
    places = [f"run.dir={folder}/run", f"store.dir={folder}/store"]
    run = lmgraft.run(str(folder / "chats.yaml"), [f"chats.workers={workers}", *places])
    funnel = json.loads((Path(run.artifacts["chats"]) / "funnel.json").read_text())
    rows = corpus.documents(run.artifacts["chats"], "train")
    chats = Counter(json.dumps([[m["role"], m["content"]] for m in row.messages or ()]) for row in rows)
    return chats, funnel["filters"][0]["dropped"]


def test_every_rule_fires(tmp_path: Path) -> None:
    chosen, dropped = selected(tmp_path)
    assert chosen.total() == 1000
    assert set(dropped) == REASONS
    assert all(count > 0 for count in dropped.values())


def test_workers_and_order_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_stage, "SMALL_BYTES", 0)
    expected, counted = selected(tmp_path / "a", workers=1)
    for mixed in (1, 2):
        chosen, dropped = selected(tmp_path / str(mixed), workers=2, mixed=mixed)
        assert chosen == expected
        assert dropped == counted
    other, _ = selected(tmp_path / "b", workers=1, seed=1)
    assert other != expected
    assert other.total() == 1000


def test_the_papers_own_limits_leave_long_answers_only(tmp_path: Path) -> None:
    chosen, _ = selected(tmp_path, min_chars=1200, max_chars=4096)
    assert chosen
    for chat in chosen:
        answer = "\n".join(content for role, content in json.loads(chat) if role == "assistant").strip()
        assert 1200 <= len(answer) <= 4096
