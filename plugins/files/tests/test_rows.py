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


def test_belle(tmp_path: Path) -> None:
    asked = "Human:A?\nAssistant:B\nsecond line\nHuman: C?\nAssistant:\n"
    document = one(tmp_path, {"instruction": asked, "input": "", "output": "D"}, rows=Rows.belle)
    assert document.messages == said("A?", "B\nsecond line", "C?", "D")
    assert one(tmp_path, {"instruction": "A?", "input": "more", "output": "B"}, rows=Rows.belle).messages == said(
        "A?\n\nmore", "B"
    )
    full_width = "Human\uff1aA?\nAssistant\uff1a"
    assert one(tmp_path, {"instruction": full_width, "output": "B"}, rows=Rows.belle).messages == said("A?", "B")
    answered = {"instruction": "Human:A?\nAssistant:B", "output": "C"}
    assert "'instruction' ends with an answer" in refused(tmp_path, answered, rows=Rows.belle)
    assert one(tmp_path, {"instruction": asked, "output": "D"}, rows=Rows.alpaca).messages == said(asked, "D")


def test_judged(tmp_path: Path) -> None:
    row = {"instruction": "A?", "output_1": "first", "output_2": "second", "annotator": "x"}
    for preference, chosen in ((1, "first"), (1.2, "first"), (1.9999, "second"), (2.0, "second")):
        document = one(tmp_path, {**row, "preference": preference}, rows=Rows.judged)
        assert (document.prompt, document.chosen) == ("A?", chosen)
        assert {document.chosen, document.rejected} == {"first", "second"}
        assert document.meta == {"annotator": "x"}
    for preference in (None, "1", True, 0, 3):
        assert "'preference' is no preference" in refused(tmp_path, {**row, "preference": preference}, rows=Rows.judged)
    assert "neither output" in refused(tmp_path, {**row, "preference": 1.5}, rows=Rows.judged)


def test_kto(tmp_path: Path) -> None:
    for label in (True, False):
        for row in ({"messages": said("A?", "B")}, {"prompt": "A?", "completion": "B"}):
            document = one(tmp_path, {**row, "label": label, "n": 1}, rows=Rows.kto)
            assert document.messages == said("A?", "B")
            assert document.meta == {"n": 1, "label": label}
    assert "'label' is no label" in refused(tmp_path, {"prompt": "A?", "completion": "B", "label": None}, rows=Rows.kto)
    assert "has no 'completion'" in refused(tmp_path, {"prompt": "A?", "label": True}, rows=Rows.kto)


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
TOOLS = [{"name": "add", "description": "adds"}]


def test_calls_of_tools_have_one_form(tmp_path: Path) -> None:
    """ShareGPT's and OpenAI's ways of writing the same conversation."""
    call = {"name": "add", "arguments": {"a": 1}}
    as_text = {**call, "arguments": json.dumps(call["arguments"])}
    sharegpt = [
        {"from": "human", "value": "1+1?"},
        {"from": "function_call", "value": json.dumps(call)},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "Two."},
    ]
    openai = [
        {"role": "user", "content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "1?"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": as_text}]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "Two."},
    ]
    older = [
        *openai[:1],
        {"role": "assistant", "content": "", "function_call": as_text},
        {"role": "function", "content": "2"},
    ]
    first = one(tmp_path, {"conversations": sharegpt, "tools": json.dumps(TOOLS)}, rows=Rows.sharegpt).messages
    second = one(tmp_path, {"messages": openai, "tools": TOOLS}, rows=Rows.messages).messages
    third = one(tmp_path, {"messages": [*older, openai[-1]], "tools": TOOLS}, rows=Rows.messages).messages
    assert first == second == third
    assert first is not None
    assert [m["role"] for m in first] == ["system", "user", "assistant", "tool", "assistant"]
    assert first[2]["content"] == CALL
    assert json.dumps(TOOLS[0]) in first[0]["content"]
    without = one(tmp_path, {"conversations": sharegpt, "tools": "[]"}, rows=Rows.sharegpt).messages
    assert without == first[1:]
    system = {"from": "system", "value": "Be kind."}
    kind = one(tmp_path, {"conversations": [system, *sharegpt], "tools": TOOLS}, rows=Rows.sharegpt).messages
    assert kind is not None
    assert kind[0]["content"].startswith("Be kind.\n\nThese tools")
    assert kind[1:] == first[1:]


def test_words_before_a_call_stay(tmp_path: Path) -> None:
    calls = [{"function": {"name": "add", "arguments": {"a": 1}}}, {"function": {"name": "add", "arguments": {"a": 1}}}]
    turns = [*said("1+1?"), {"role": "assistant", "content": "Let me see.", "tool_calls": calls}]
    messages = one(tmp_path, {"messages": turns}, rows=Rows.messages).messages
    assert messages is not None
    assert messages[1]["content"] == f"Let me see.\n{CALL}\n{CALL}"
    for bad, word in (("{oops", "is not JSON"), ([], "an empty list"), ({"args": 1}, "no call of a tool")):
        row = {"conversations": [{"from": "function_call", "value": bad}]}
        assert word in refused(tmp_path, row, rows=Rows.sharegpt)


class Bytes:
    """A tokenizer of bytes."""

    end_id = 256

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [list(text.encode()) for text in texts]


def test_what_the_assistant_calls_is_learnt_and_what_tools_give_is_not(tmp_path: Path) -> None:
    from lmgraft import chat

    turns = [
        {"from": "human", "value": "1+1?"},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "Two."},
    ]
    messages = one(tmp_path, {"conversations": turns, "tools": TOOLS}, rows=Rows.sharegpt).messages
    assert messages is not None
    ids, weights = chat.encode_chat(messages, Bytes(), "chatml")  # type: ignore[arg-type]
    learnt, rest = (
        bytes(token for token, weight in zip(ids, weights, strict=True) if weight == kind and token < 256).decode()
        for kind in (1.0, 0.0)
    )
    assert CALL in learnt
    assert "Two." in learnt
    assert "<|im_start|>tool\n2" in rest
    assert "<tools>" in rest


DATA = os.environ.get("LMGRAFT_TEST_DATA")
SEEDS = {"input": "instances.0.input", "output": "instances.0.output"}
ANSWER = {"output": "response"}
ASKED = {"prompt": "conversations"}
#: file -> settings and rows: every file of instruct/ and preference/
FILES: list[tuple[str, Rows, dict[str, str], int]] = [
    ("instruct/alpaca_en.jsonl.gz", Rows.alpaca, {}, 500),
    ("instruct/alpaca_seed_tasks.jsonl", Rows.alpaca, SEEDS, 175),
    ("instruct/alpaca_zh.jsonl.gz", Rows.alpaca, {}, 500),
    ("instruct/alpaca_zh_more.jsonl.gz", Rows.alpaca, {}, 1000),
    ("instruct/belle_eval_set_zh.jsonl.gz", Rows.belle, {"instruction": "question", "output": "std_answer"}, 500),
    ("instruct/belle_prompt_cn.txt", Rows.text, {}, 1),
    ("instruct/belle_zh_seed_tasks.jsonl", Rows.belle, SEEDS, 175),
    ("instruct/code_alpaca_2k.jsonl.gz", Rows.alpaca, {}, 1017),
    ("instruct/dolly_hhrlhf.jsonl.gz", Rows.alpaca, {"instruction": "prompt", **ANSWER}, 500),
    ("instruct/fastchat_dummy_conversation.jsonl.gz", Rows.sharegpt, {}, 250),
    ("instruct/glaive_toolcall_en.jsonl.gz", Rows.sharegpt, {}, 150),
    ("instruct/glaive_toolcall_zh.jsonl.gz", Rows.sharegpt, {}, 150),
    ("instruct/gpteacher_codegen.jsonl.gz", Rows.alpaca, ANSWER, 1500),
    ("instruct/gpteacher_roleplay.jsonl.gz", Rows.alpaca, ANSWER, 973),
    ("instruct/gpteacher_toolformer_dedupe_only.json.gz", Rows.alpaca, ANSWER, 7673),
    ("instruct/gpteacher_toolformer_sim0.6.json.gz", Rows.alpaca, ANSWER, 2396),
    ("instruct/identity.json", Rows.alpaca, {}, 91),
    ("instruct/medical_zh_1k.jsonl.gz", Rows.sharegpt, {}, 500),
    ("instruct/new_codealpaca.jsonl.gz", Rows.alpaca, {}, 2285),
    ("instruct/sharegpt_zh_1k.jsonl.gz", Rows.sharegpt, {}, 500),
    ("instruct/t0_multi_template.jsonl.gz", Rows.alpaca, {"instruction": "prompt", "output": "completion"}, 4156),
    ("instruct/user_oriented_252.jsonl.gz", Rows.alpaca, SEEDS, 150),
    ("preference/alpaca_eval_judgements_a.jsonl.gz", Rows.judged, {}, 405),
    ("preference/alpaca_eval_judgements_b.jsonl.gz", Rows.judged, {}, 405),
    ("preference/alpaca_farm_pairs.json", Rows.alpaca, {"output": "output_1"}, 6),
    ("preference/dpo_en.jsonl.gz", Rows.pairs, ASKED, 150),
    ("preference/dpo_zh.jsonl.gz", Rows.pairs, ASKED, 150),
    ("preference/hh_harmless_base_test.jsonl.gz", Rows.hh, {}, 1162),
    ("preference/kto_en.jsonl.gz", Rows.kto, {}, 150),
    ("preference/reward_zh_500.jsonl.gz", Rows.pairs, ASKED, 250),
    ("preference/stack_exchange_paired_tiny.json", Rows.pairs,
     {"prompt": "question", "chosen": "response_j", "rejected": "response_k"}, 25),
]  # fmt: skip


@pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set")
def test_every_real_file_has_its_settings() -> None:
    root = Path(DATA or "")
    there = {
        path.relative_to(root).as_posix() for name in ("instruct", "preference") for path in (root / name).iterdir()
    }
    assert {name for name in there if not name.endswith(".md")} == {name for name, *_ in FILES}


@pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set")
@pytest.mark.parametrize(("name", "kind", "columns", "count"), FILES, ids=[name for name, *_ in FILES])
def test_real_files(name: str, kind: Rows, columns: dict[str, str], count: int) -> None:
    path = Path(DATA or "") / name
    rows = read(path, rows=kind, columns=columns)
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if kind is not Rows.text:
        assert len(rows) == (sum(map(bool, data.split(b"\n"))) if "jsonl" in name else len(json.loads(data)))
    assert len(rows) == count
    for row in rows:
        if kind in (Rows.pairs, Rows.judged, Rows.hh):
            assert row.messages or row.prompt
            assert isinstance(row.chosen, str)
            assert isinstance(row.rejected, str)
        elif kind is not Rows.text:
            roles = {message["role"] for message in row.messages or ()}
            assert {"user", "assistant"} <= roles <= {"system", "user", "assistant", "tool"}
            assert all(isinstance(message["content"], str) for message in row.messages or ())


@pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set")
def test_real_calls_of_tools() -> None:
    rows = read(Path(DATA or "") / "instruct/glaive_toolcall_en.jsonl.gz", rows=Rows.sharegpt)
    calls = sum(
        message["content"].count("<tool_call>")
        for row in rows
        for message in row.messages or ()
        if message["role"] == "assistant"
    )
    given = sum(message["role"] == "tool" for row in rows for message in row.messages or ())
    assert calls > 100
    assert given > 100


@pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set")
def test_real_transcripts() -> None:
    rows = read(Path(DATA or "") / "preference/hh_harmless_base_test.jsonl.gz", rows=Rows.hh)
    assert all(row.messages and row.messages[-1]["role"] == "user" for row in rows)
    assert sum(len(row.messages or ()) > 1 for row in rows) > 500
