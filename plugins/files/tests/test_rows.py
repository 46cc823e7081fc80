"""Chats and preference pairs in the forms that files have them."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Damaged, Document
from lmgraft_files.plugin import FilesConfig, Rows
from lmgraft_files.source import Files


def read(path: Path, **settings: Any) -> list[Document]:
    config = FilesConfig(path=str(path), **settings)
    assert list(config.check()) == []
    source, rows = Files(config), []
    for found in (found for unit in source.units() for found in source.read(unit, 0)):
        if isinstance(found, Damaged):
            raise UserError(found.problem)
        rows.append(found)
    return rows


def one(folder: Path, row: dict[str, Any], **settings: Any) -> Document:
    (folder / "a.jsonl").write_text(json.dumps(row) + "\n")
    (document,) = read(folder / "a.jsonl", **settings)
    return document


def refused(folder: Path, row: dict[str, Any], **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        one(folder, row, **settings)
    (problem,) = caught.value.problems
    return f"{problem.fact} | {problem.cause} | {problem.remedy}"


def said(*turns: str) -> list[dict[str, str]]:
    """Alternating turns, the user's first."""
    return [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]


def test_alpaca(tmp_path: Path) -> None:
    row = {"instruction": "Name it.", "input": "", "output": "Tom", "score": 12}
    document = one(tmp_path, row, rows=Rows.alpaca)
    assert document.messages == said("Name it.", "Tom")
    assert document.meta == {"score": 12}
    assert one(tmp_path, {**row, "input": "a cat"}, rows=Rows.alpaca).messages == said("Name it.\n\na cat", "Tom")
    for number in (0, 3):
        assert "'input' is no text" in refused(tmp_path, {**row, "input": number}, rows=Rows.alpaca)
    assert one(tmp_path, {"instruction": "Go", "output": ""}, rows=Rows.alpaca).messages == said("Go", "")


def test_alpaca_with_a_system_message_and_a_past(tmp_path: Path) -> None:
    row = {"instruction": "And?", "output": "C", "system": "Be brief.", "history": [["A?", "B"]]}
    document = one(tmp_path, row, rows=Rows.alpaca)
    assert document.messages == [{"role": "system", "content": "Be brief."}, *said("A?", "B", "And?", "C")]
    assert "turn 1 of 'history'" in refused(tmp_path, {**row, "history": [["A?"]]}, rows=Rows.alpaca)


def test_columns_by_other_names(tmp_path: Path) -> None:
    columns = {"instruction": "data.q", "output": "answer"}
    row = {"data": {"q": "Why?"}, "answer": "So.", "id": 3}
    document = one(tmp_path, row, rows=Rows.alpaca, columns=columns)
    assert document.messages == said("Why?", "So.")
    assert document.meta == {"id": 3}
    text = refused(tmp_path, {"instruct": "Why?", "output": "So."}, rows=Rows.alpaca)
    assert "a.jsonl:1: the row has no 'instruction'" in text
    assert "files.columns.instruction=instruct" in text


def test_columns_that_no_row_of_the_kind_has_are_refused() -> None:
    (problem,) = FilesConfig(rows=Rows.alpaca, columns={"chosen": "x"}).check()
    assert "it has instruction, input, output" in str(problem)
    (problem,) = FilesConfig(columns={"text": "x"}).check()
    assert "files.text" in str(problem)
    (problem,) = FilesConfig(rows=Rows.hh, columns={"chosen": ""}).check()
    assert "columns.chosen is empty" in str(problem)


def test_sharegpt(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "A?"}, {"from": "gpt", "value": "B"}]
    document = one(tmp_path, {"conversations": turns, "id": "x"}, rows=Rows.sharegpt)
    assert document.messages == said("A?", "B")
    assert document.meta == {"id": "x"}
    text = refused(tmp_path, {"conversations": [{"from": "oracle", "value": "A"}]}, rows=Rows.sharegpt)
    assert "message 1 is from 'oracle'" in text
    assert "human" in text


def test_pairs_after_a_conversation(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "A?"}]
    row = {
        "conversations": turns,
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    }
    document = one(tmp_path, row, rows=Rows.pairs, columns={"prompt": "conversations"})
    assert (document.messages, document.prompt) == (said("A?"), None)
    assert (document.chosen, document.rejected) == ("good", "bad")


def test_pairs_of_whole_conversations(tmp_path: Path) -> None:
    row = {"prompt": "A?", "chosen": said("A?", "B", "C?", "good"), "rejected": said("A?", "B", "C?", "bad")}
    document = one(tmp_path, row, rows=Rows.pairs)
    assert document.messages == said("A?", "B", "C?")
    assert (document.chosen, document.rejected) == ("good", "bad")
    differ = {**row, "rejected": said("A?", "X", "C?", "bad")}
    assert "answer different questions" in refused(tmp_path, differ, rows=Rows.pairs)
    unanswered = {**row, "chosen": said("A?")}
    assert "'chosen' ends without an answer" in refused(tmp_path, unanswered, rows=Rows.pairs)


def test_pairs_of_whole_conversations_need_no_prompt(tmp_path: Path) -> None:
    row = {"chosen": said("A?", "good"), "rejected": said("A?", "bad"), "score_chosen": 8.5}
    document = one(tmp_path, row, rows=Rows.pairs)
    assert document.messages == said("A?")
    assert document.meta == {"score_chosen": 8.5}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", rows=Rows.pairs)[0].messages == said("A?")
    alone = {"chosen": "good", "rejected": "bad"}
    text = refused(tmp_path, alone, rows=Rows.pairs)
    assert "a.jsonl:1: the row has no 'prompt'" in text
    assert "files.rows=hh" in text
    assert "files.columns.prompt=promt" in refused(tmp_path, {**alone, "promt": "A?"}, rows=Rows.pairs)


def test_pairs_whose_answers_go_on_after_the_prompt(tmp_path: Path) -> None:
    more, system = said("A?", "B", "C?"), {"role": "system", "content": "Be kind."}
    good, bad = ([*more[1:], {"role": "assistant", "content": word}] for word in ("good", "bad"))
    for prompt in ("A?", said("A?")):
        document = one(tmp_path, {"prompt": prompt, "chosen": good, "rejected": bad}, rows=Rows.pairs)
        assert document.messages == more
        assert (document.chosen, document.rejected) == ("good", "bad")
    last = {"prompt": [system, *more], "chosen": good[-1:], "rejected": bad[-1:]}
    assert one(tmp_path, last, rows=Rows.pairs).messages == [system, *more]
    for prompt in ("A?", said("A?"), [system, *said("A?")]):
        row = {"prompt": prompt, "chosen": [system, good[-1]], "rejected": [system, bad[-1]]}
        assert one(tmp_path, row, rows=Rows.pairs).messages == [system, *said("A?")]


def test_pairs_whose_conversations_do_not_hold_the_prompt(tmp_path: Path) -> None:
    row = {"prompt": said("X?"), "chosen": said("A?", "good"), "rejected": said("A?", "bad")}
    text = refused(tmp_path, row, rows=Rows.pairs)
    assert "a.jsonl:1: the conversations of 'chosen' and 'rejected' do not hold 'prompt'" in text
    assert "'A?'" in text
    system = {"role": "system", "content": "Be kind."}
    held = {**row, "chosen": [system, *said("X?", "good")], "rejected": [system, *said("X?", "bad")]}
    assert one(tmp_path, held, rows=Rows.pairs).messages == [system, *said("X?")]


def test_a_system_message_is_not_said_twice(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be kind."}
    row = {"system": "Be kind.", "chosen": [system, *said("A?", "good")], "rejected": [system, *said("A?", "bad")]}
    assert one(tmp_path, row, rows=Rows.pairs).messages == [system, *said("A?")]


def test_pairs_of_texts_with_a_system_message(tmp_path: Path) -> None:
    row = {"prompt": "A?", "chosen": "good", "rejected": "bad"}
    assert one(tmp_path, row, rows=Rows.pairs).prompt == "A?"
    document = one(tmp_path, {**row, "system": "Be kind."}, rows=Rows.pairs)
    assert document.messages == [{"role": "system", "content": "Be kind."}, *said("A?")]
    assert document.prompt is None
    assert "two kinds" in refused(tmp_path, {**row, "chosen": said("A?", "good")}, rows=Rows.pairs)


def test_hh_transcripts(tmp_path: Path) -> None:
    start = "\n\nHuman: A?\n\nAssistant: B\n\nwith Human: inside\n\nHuman: C?\n\nAssistant: "
    document = one(tmp_path, {"chosen": start + "good\n\nmore", "rejected": start + "bad"}, rows=Rows.hh)
    assert document.messages == said("A?", "B\n\nwith Human: inside", "C?")
    assert (document.chosen, document.rejected) == ("good\n\nmore", "bad")
    assert "is no transcript" in refused(tmp_path, {"chosen": "good", "rejected": "bad"}, rows=Rows.hh)
    twice = {"chosen": start + "good\n\nAssistant: again", "rejected": start + "bad"}
    assert one(tmp_path, twice, rows=Rows.hh).chosen == "good\n\nagain"
    human = {"chosen": "\n\nHuman: A?", "rejected": "\n\nHuman: A?"}
    assert "ends without an answer" in refused(tmp_path, human, rows=Rows.hh)


def test_optional_columns_of_parquet_are_read(tmp_path: Path) -> None:
    rows = [{"instruction": "And?", "output": "C", "history": [["A?", "B"]]}, {"instruction": "D?", "output": "E"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    first, second = read(tmp_path / "a.parquet", rows=Rows.alpaca)
    assert first.messages == said("A?", "B", "And?", "C")
    assert second.messages == said("D?", "E")


def test_a_row_of_another_kind_names_that_kind(tmp_path: Path) -> None:
    assert "files.rows=alpaca" in refused(tmp_path, {"instruction": "A", "output": "B"}, rows=Rows.messages)
    assert "files.rows=hh" in refused(tmp_path, {"chosen": "A", "rejected": "B"}, rows=Rows.messages)
    assert "files.rows=sharegpt" in refused(tmp_path, {"conversations": []}, rows=Rows.alpaca)


DATA = os.environ.get("LMGRAFT_TEST_DATA")
BELLE = {"instruction": "question", "output": "std_answer"}
DOLLY = {"instruction": "prompt", "output": "response"}
PAIRED = {"prompt": "question", "chosen": "response_j", "rejected": "response_k"}
KINDS = [
    ("instruct/alpaca_en.jsonl.gz", {"rows": Rows.alpaca}, 500),
    ("instruct/alpaca_zh.jsonl.gz", {"rows": Rows.alpaca}, None),
    ("instruct/belle_eval_set_zh.jsonl.gz", {"rows": Rows.alpaca, "columns": BELLE}, 500),
    ("instruct/identity.json", {"rows": Rows.alpaca}, 91),
    ("instruct/dolly_hhrlhf.jsonl.gz", {"rows": Rows.alpaca, "columns": DOLLY}, 500),
    ("instruct/fastchat_dummy_conversation.jsonl.gz", {"rows": Rows.sharegpt}, 250),
    ("preference/stack_exchange_paired_tiny.json", {"rows": Rows.pairs, "columns": PAIRED}, 25),
    ("instruct/gpteacher_roleplay.jsonl.gz", {"rows": Rows.alpaca, "columns": {"output": "response"}}, 973),
    ("instruct/sharegpt_zh_1k.jsonl.gz", {"rows": Rows.sharegpt}, None),
    ("instruct/medical_zh_1k.jsonl.gz", {"rows": Rows.sharegpt}, None),
    ("preference/dpo_en.jsonl.gz", {"rows": Rows.pairs, "columns": {"prompt": "conversations"}}, None),
    ("preference/dpo_zh.jsonl.gz", {"rows": Rows.pairs, "columns": {"prompt": "conversations"}}, None),
    ("preference/reward_zh_500.jsonl.gz", {"rows": Rows.pairs, "columns": {"prompt": "conversations"}}, 250),
]


@pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set")
@pytest.mark.parametrize(("name", "settings", "count"), KINDS, ids=[name for name, _, _ in KINDS])
def test_real_files(name: str, settings: dict[str, Any], count: int | None) -> None:
    path = Path(DATA or "") / name
    rows = read(path, **settings)
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert len(rows) == (data.count(b"\n") if "jsonl" in name else len(json.loads(data)))
    assert count is None or len(rows) == count
    if "instruct" in name:
        assert all(any(m["role"] == "assistant" for m in row.messages or ()) for row in rows)
    else:
        assert all((row.messages or row.prompt) and row.chosen and row.rejected for row in rows)


@pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set")
def test_real_transcripts() -> None:
    rows = read(Path(DATA or "") / "preference/hh_harmless_base_test.jsonl.gz", rows=Rows.hh)
    assert len(rows) == 1162
    assert all(row.messages and row.messages[-1]["role"] == "user" for row in rows)
    assert sum(len(row.messages or ()) > 1 for row in rows) > 500
