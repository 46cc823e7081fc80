"""Data sets by the real libraries from a hub in small: pinned, cut into files, and what is told where that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lmgraft.rows.kinds import Rows
from lmgraft_hub.plugin import HubConfig

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from hub_server import Hub, serving  # noqa: E402

#: Reads what each of the settings (rows of JSON on standard input) gives, and prints it as a row.
READER = """
import json, os, sys, time, urllib.request
from lmgraft.errors import LmgraftError, UserError
from lmgraft.rows.kinds import Rows
from lmgraft.seams.data_source import Damaged
from lmgraft_hub.plugin import HubConfig
from lmgraft_hub.source import Hub

def ask(path):
    urllib.request.urlopen(os.environ["HF_ENDPOINT"] + path).read()

def shown(one):
    if isinstance(one, Damaged):
        return {"reason": one.reason, "fact": one.problem.fact}
    return {"id": one.id, "text": one.text, "messages": one.messages, "meta": dict(one.meta)}

for line in sys.stdin:
    settings = json.loads(line)
    offset, gone = settings.pop("offset", 0), settings.pop("gone", False)
    settings["rows"] = Rows[settings.get("rows", "text")]
    config = HubConfig(**settings)
    assert not list(config.check()), list(config.check())
    try:
        units = Hub(config).units()
        if gone:
            ask("/-/gone")
        # Another instance, as in a worker.
        found = [[shown(one) for one in Hub(config).read(unit, offset)] for unit in units]
        told = {"units": [[u.id, u.digest, u.size, u.path] for u in units], "found": found}
    except LmgraftError as error:
        told = {"error": type(error).__name__, "lines": str(error).splitlines()}
    finally:
        if gone:
            ask("/-/back")
    print(json.dumps(told), flush=True)
"""


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, **options)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def ask(address: str, home: Path, settings: list[dict[str, Any]], **environment: str) -> list[dict[str, Any]]:
    env = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home), **environment}
    lines = "".join(json.dumps(row) + "\n" for row in settings)
    done = subprocess.run(
        [sys.executable, "-c", READER], input=lines, env=env, cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


CHAT = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B"}]
README = """---
configs:
- config_name: small
  data_files: small.jsonl
- config_name: large
  data_files: large.jsonl
---
"""


@pytest.fixture(scope="module")
def hub() -> Hub:
    made = Hub()
    shards = {
        f"data/train-{n:05d}-of-00003.parquet": parquet(
            [{"text": f"{n} {i}", "n": i} for i in range(40)], row_group_size=9
        )
        for n in range(3)
    }
    made.push("org/texts", {**shards, "data/test-00000-of-00001.parquet": parquet([{"text": "test"}])}, "main", "v1.0")
    made.push("org/chats", {"train.parquet": parquet([{"messages": CHAT, "lang": "en"}])})
    made.push("org/broken", {"train.jsonl": b'{"text": "a"}\n{"text": null}\n{"text": "c"}\n'})
    made.push(
        "org/several",
        {"README.md": README.encode(), "small.jsonl": b'{"text": "s"}\n', "large.jsonl": b'{"text": "l"}\n'},
    )
    made.push("org/script", {"script.py": b"raise SystemExit(99)\n", "rows.jsonl": b'{"text": "a"}\n'})
    made.push("org/other", {"other_name.py": b"raise SystemExit(99)\n"})
    made.push("org/tar", {"train.tar": b"\0" * 10240})
    return made


@pytest.fixture(scope="module")
def answers(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """What the source gives for every question, by its name: one process, so that libraries are imported once."""
    commit = hub.names["org/texts"]["main"]
    questions: dict[str, dict[str, Any]] = {
        "main": {"name": "org/texts"},
        "tag": {"name": "org/texts", "revision": "v1.0"},
        "commit": {"name": "org/texts", "revision": commit},
        "offset": {"name": "org/texts", "offset": 30},
        "test": {"name": "org/texts", "split": "test"},
        "chats": {"name": "org/chats", "rows": "messages"},
        "damaged": {"name": "org/broken"},
        "damaged offset": {"name": "org/broken", "offset": 1},
        "column": {"name": "org/texts", "text": "content"},
        "config": {"name": "org/several", "config": "large"},
        "no config": {"name": "org/several"},
        "bad config": {"name": "org/several", "config": "huge"},
        "no data set": {"name": "org/nothing"},
        "no revision": {"name": "org/texts", "revision": "v9"},
        "no split": {"name": "org/texts", "split": "dev"},
        "script": {"name": "org/script"},
        "tar": {"name": "org/tar"},
        "nothing": {"name": "org/other"},
        "gone": {"name": "org/texts", "gone": True},
    }
    with serving(hub) as address:
        home = tmp_path_factory.mktemp("home")
        found = ask(address, home, list(questions.values()))
        yield dict(zip(questions, found, strict=True))


def test_a_branch_a_tag_and_a_commit_are_one_input(hub: Hub, answers: dict[str, Any]) -> None:
    commit = hub.names["org/texts"]["main"]
    assert answers["main"] == answers["tag"] == answers["commit"]
    units = answers["main"]["units"]
    assert [unit[0] for unit in units] == [f"data/train-{n:05d}-of-00003.parquet" for n in range(3)]
    assert [unit[1] for unit in units] == [f"{commit}:{n}/3" for n in range(3)]
    assert all(size == len(hub.commits["org/texts"][commit][name]) and path is None for name, _, size, path in units)


def test_every_row_is_in_one_unit(answers: dict[str, Any]) -> None:
    found = answers["main"]["found"]
    assert [[row["text"] for row in unit] for unit in found] == [[f"{n} {i}" for i in range(40)] for n in range(3)]
    assert found[1][7]["id"] == "data/train-00001-of-00003.parquet:7"
    assert found[1][7]["meta"] == {"n": 7}
    assert answers["offset"]["found"] == [unit[30:] for unit in found]
    assert [[row["text"] for row in unit] for unit in answers["test"]["found"]] == [["test"]]


def test_chats_and_configurations(answers: dict[str, Any]) -> None:
    ((row,),) = answers["chats"]["found"]
    assert (row["messages"], row["meta"]) == (CHAT, {"lang": "en"})
    assert [[row["text"] for row in unit] for unit in answers["config"]["found"]] == [["l"]]


def test_a_bad_row_is_damaged_and_reading_goes_on(answers: dict[str, Any]) -> None:
    (found,) = answers["damaged"]["found"]
    assert [row.get("text", row.get("reason")) for row in found] == ["a", "wrong_type", "c"]
    assert found[1]["fact"] == "hub: org/broken, train.jsonl (row 2): 'text' is no text"
    assert answers["damaged offset"]["found"] == [found[1:]]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("column", ["org/texts: the row has no 'content'", "it has n, text", "hub.text"]),
        ("no config", ["org/several", "small", "large", "hub.config"]),
        ("bad config", ["'huge'", "small", "hub.config"]),
        ("no data set", ["org/nothing is not found", "hf auth login"]),
        ("no revision", ["org/texts has no revision 'v9'", "hub.revision=main"]),
        ("no split", ["org/texts has no split 'dev'", "train", "hub.split"]),
        ("script", ["org/script is read by a script, script.py", "never run"]),
        ("tar", ["org/tar", "only parquet, json, csv, text, arrow are read"]),
        ("nothing", ["org/other"]),
    ],
)
def test_what_cannot_be_read_is_told_in_three_lines(answers: dict[str, Any], name: str, words: list[str]) -> None:
    told = answers[name]
    assert told["error"] in ("UserError", "Unreadable"), told
    assert len(told["lines"]) == 3
    assert [word for word in words if word not in "\n".join(told["lines"])] == [], told["lines"]


def test_a_hub_that_goes_away_is_no_damage(answers: dict[str, Any]) -> None:
    """It stops the stage whatever ``corrupt`` says: nothing is wrong with the data."""
    told = answers["gone"]
    assert told["error"] == "Unreachable"
    assert "org/texts cannot be reached" in told["lines"][0]
    assert "start again" in told["lines"][2]


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {}])
def test_without_a_network_the_remedy_is_a_download(tmp_path: Path, environment: dict[str, str]) -> None:
    (told,) = ask("http://127.0.0.1:9", tmp_path, [{"name": "org/texts", "revision": "v1.0"}], **environment)
    assert told["error"] == "UserError"
    fact, cause, remedy = told["lines"]
    assert fact == "hub: org/texts cannot be reached"
    assert "HF_HUB_OFFLINE" in cause
    assert "hf download org/texts --repo-type dataset --revision v1.0" in remedy
    assert "hub.name=DIR" in remedy


def test_settings_are_checked(tmp_path: Path) -> None:
    def problems(**settings: Any) -> str:
        return "\n".join(str(problem) for problem in HubConfig(**settings).check())

    assert problems() == problems(name="org/name") == problems(name="squad") == problems(name=str(tmp_path)) == ""
    assert "expected a data set" in problems(name="https://huggingface.co/datasets/x")
    assert "expected a data set" in problems(name=f"{tmp_path}/nothing")
    assert "split is empty" in problems(split="")
    assert "max_bytes" in problems(split="train[:10%]")
    assert "hub.text" in problems(columns={"text": "x"})
    assert "columns names" in problems(rows=Rows.hh, columns={"x": "y"})
    assert not HubConfig().ready()
    assert HubConfig(name="org/name").ready()
