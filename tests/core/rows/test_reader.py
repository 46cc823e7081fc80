"""Rows for a source of anybody's: its own name in messages, and columns wherever they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from lmgraft.rows.kinds import COLUMNS, KEYS, Rows, RowsConfig
from lmgraft.rows.reader import RowReader
from lmgraft.rows.values import RowError


@dataclass
class MineConfig(RowsConfig):
    source: ClassVar[str] = "mine"


CHAT = [{"role": "user", "content": "a"}]


def refused(row: dict[str, Any], **settings: Any) -> RowError:
    with pytest.raises(RowError) as error:
        RowReader(MineConfig(**settings)).document(row, "a:0")
    return error.value


def test_every_kind_has_keys_and_promises() -> None:
    assert set(KEYS) == set(COLUMNS) == set(Rows)
    assert [MineConfig(rows=kind).provides() for kind in Rows] == [COLUMNS[kind] for kind in Rows]


def test_messages_name_the_source() -> None:
    error = refused({"body": "a"}, text="txt")
    assert error.remedy == "set mine.text to the key that holds it"
    assert error.reason == "missing_column"
    assert error.problem("mine: x.db, row 7").fact == "mine: x.db, row 7: the row has no 'txt'"
    damaged = error.damaged("mine: x.db, row 7", 12)
    assert (damaged.reason, damaged.bytes) == ("missing_column", 12)
    assert "mine.rows=alpaca" in refused({"instruction": "a", "output": "b"}, rows=Rows.sharegpt).remedy
    assert [str(one) for one in MineConfig(columns={"text": "x"}).check_rows()] == [
        "columns names 'text', which rows=text has not; set mine.text"
    ]


def test_columns_reach_into_objects_and_lists() -> None:
    columns = {"instruction": "data.q", "output": "answers.1.text"}
    row = {"data": {"q": "A?"}, "answers": [{"text": "no"}, {"text": "B"}], "n": 1}
    document = RowReader(MineConfig(rows=Rows.alpaca, columns=columns)).document(row, "a:0")
    assert [message["content"] for message in document.messages or ()] == ["A?", "B"]
    assert document.meta == {"n": 1}
    for bad in ([], [{"text": "only one"}], {"1": "x"}, None):
        assert refused({**row, "answers": bad}, rows=Rows.alpaca, columns=columns).reason == "missing_column"


@pytest.mark.parametrize(
    ("row", "settings", "reason"),
    [
        ({"text": None}, {}, "wrong_type"),
        ({"text": "\ud83d"}, {}, "bad_unicode"),
        ({"text": "a", "note": "\ud83d"}, {}, "bad_unicode"),
        ({"text": "a", "site": None}, {"group": "site"}, "wrong_type"),
        ({"messages": []}, {"rows": Rows.messages}, "wrong_type"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, {"rows": Rows.messages}, "bad_role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, {"rows": Rows.messages}, "wrong_type"),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, {"rows": Rows.sharegpt}, "bad_call"),
        ({"conversations": [{"from": "human", "value": "x"}], "tools": "{"}, {"rows": Rows.sharegpt}, "bad_call"),
        ({"chosen": "Human: a", "rejected": "b"}, {"rows": Rows.hh}, "bad_transcript"),
        ({"prompt": "a", "completion": "b", "label": None}, {"rows": Rows.kto}, "bad_label"),
        ({"prompt": "a", "chosen": "b", "rejected": [CHAT[0]]}, {"rows": Rows.pairs}, "bad_pair"),
    ],
)  # fmt: skip
def test_each_fault_has_its_reason(row: dict[str, Any], settings: dict[str, Any], reason: str) -> None:
    assert refused(row, **settings).reason == reason
