"""Every kind of corrupt input, through the real corpus stage: it stops in three lines, or is counted."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from lmgraft.artifacts import corpus
from lmgraft.errors import UserError
from lmgraft.registry import build
from lmgraft.stages.corpus import Corpus
from lmgraft.stages.plugin import CorpusStage, Corrupt
from lmgraft_files.plugin import FilesConfig, Rows, lmgraft_data_source

(COMPONENT,) = lmgraft_data_source()


class Bar:
    def advance(self, amount: float = 1, **shown: Any) -> None: ...

    def total(self, total: float) -> None: ...


class Context:
    """What the stage asks of core, for one source and no filter."""

    name, seed, device = "corpus", 1, "cpu"

    def __init__(self, root: Path, config: FilesConfig) -> None:
        self.work, self.out = root / "work", root / "out"
        self.inputs: Mapping[str, Any] = {}
        self.notes: list[str] = []
        self._config = config
        self.work.mkdir(parents=True)
        self.out.mkdir()

    def component(self, path: str) -> tuple[Any, Any]:
        return COMPONENT, self._config

    def part(self, path: str) -> Any:
        return build(COMPONENT, self._config)

    def parts(self, slot: str) -> dict[str, Any]:
        return {}

    def file_digest(self, path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Bar]:
        yield Bar()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def alive(self) -> None: ...


def made(root: Path, config: FilesConfig, corrupt: Corrupt) -> Path:
    context = Context(root, config)
    stage = Corpus(CorpusStage(sources={"files": config}, workers=1, corrupt=corrupt))
    stage.identity(context)
    stage.run(context)
    return context.out


def rows(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()


LINES = rows(*(f"row {hashlib.sha256(str(n).encode()).hexdigest()}" for n in range(4000)))


def parquet(damage: Callable[[bytearray, Any], None]) -> bytes:
    """Three row groups of a hundred rows, with some damage done to the bytes."""
    table = pa.table({"text": [f"row {n}" for n in range(300)], "n": list(range(300))})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=100, compression="zstd", use_dictionary=False)
    data = bytearray(sink.getvalue().to_pybytes())
    damage(data, pq.read_metadata(pa.BufferReader(bytes(data))))
    return bytes(data)


def second_group(data: bytearray, metadata: Any) -> None:
    column = metadata.row_group(1).column(0)
    start = column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size


def footer(data: bytearray, metadata: Any) -> None:
    data[-40:-8] = b"\xff" * 32


def stream(closed: bool) -> bytes:
    sink = pa.BufferOutputStream()
    writer = pa.ipc.new_stream(sink, pa.schema([("text", pa.string())]))
    for n in range(3):
        writer.write_batch(pa.record_batch([pa.array([f"row {n}"])], names=["text"]))
    writer.close()
    data: bytes = sink.getvalue().to_pybytes()
    return data if closed else data[:-8]


CHAT = b'{"messages": [{"role": "user", "content": "a"}, {"role": "%s", "content": "b"}]}\n'
LABELLED = b'{"prompt": "a", "completion": "b", "label": %s}\n'
JUDGED = b'{"instruction": "a", "output_1": "b", "output_2": "c", "preference": %s}\n'
ZEROS = bytes(8 << 20)

#: file, its bytes, settings, the reason, documents that are read all the same (None: some), a word of the first line
KINDS: list[tuple[str, bytes, dict[str, Any], str, int | None, str]] = [
    ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:-30_000], {}, "truncated", None, "a.jsonl.gz"),
    ("a.jsonl.zst", zstandard.compress(LINES)[:-30_000], {}, "truncated", None, "a.jsonl.zst"),
    ("a.jsonl.bz2", bz2.compress(LINES[:99]) + bz2.compress(LINES)[:-30_000], {}, "truncated", None, "a.jsonl.bz2"),
    ("a.jsonl.xz", lzma.compress(LINES)[:-30_000], {}, "truncated", None, "a.jsonl.xz"),
    ("a.jsonl.gz", gzip.compress(rows("one"), mtime=0) + b"rubbish", {}, "corrupt", 1, "a.jsonl.gz"),
    ("a.jsonl.bz2", bz2.compress(rows("one")) + b"rubbish", {}, "corrupt", 1, "a.jsonl.bz2"),
    ("a.parquet", parquet(footer), {}, "bad_parquet", 0, "a.parquet cannot"),
    ("a.parquet", parquet(second_group), {}, "bad_parquet", 200, "a.parquet (row group 2 of 3)"),
    ("a.parquet", b"PAR1 nothing", {}, "bad_parquet", 0, "a.parquet cannot"),
    ("a.arrow", stream(closed=False), {}, "truncated", 3, "a.arrow"),
    ("a.arrow", b"ARROW1 nothing", {}, "bad_arrow", 0, "a.arrow"),
    ("a.jsonl", rows("one") + b'{"text": "caf\xe9"}\n' + rows("two"), {}, "bad_utf8", 2, "a.jsonl:2 is not UTF-8"),
    ("a.txt", b"caf\xe9\n", {}, "bad_utf8", 0, "a.txt:1 is not UTF-8"),
    ("a.csv", b"text,n\none,1\ncaf\xe9,2\ntwo,3\n", {}, "bad_utf8", 2, "a.csv:3 is not UTF-8"),
    ("a.json", b'[{"text": "one"},\n{"text": "caf\xe9"}]', {}, "bad_utf8", 0, "a.json:2 is not UTF-8"),
    ("a.jsonl", rows("one") + b'{"text": "tw\n' + rows("two"), {}, "bad_json", 2, "a.jsonl:2 is not valid JSON"),
    ("a.json", b'[{"text": "one"},\n{"text": }]', {}, "bad_json", 1, "a.json:2 is not valid JSON"),
    ("a.jsonl", rows("one") + b"[1]\n", {}, "wrong_type", 1, "a.jsonl:2 is no JSON object"),
    ("a.jsonl", rows("one", "x" * 5000, "two"), {"row_bytes": 1000}, "too_long", 2, "a.jsonl:2 is too long"),
    ("a.csv", b'text\none\n"' + b"x" * 5000 + b'"\ntwo\n', {"row_bytes": 1000}, "too_long", 2, "a.csv:3 is too long"),
    ("a.csv", b'text\none\n"' + b"x\n" * 5000, {"row_bytes": 1000}, "too_long", 1, "a.csv:3 is too long"),
    ("a.csv", b'text\none\n"two\nthree\n', {}, "bad_csv", 1, "a.csv:3: a quote is opened"),
    ("a.csv", b'text,n\none,1\ntwo\n"th"ree",3\nfour,4\n', {}, "bad_csv", 2, "a.csv:3 has 1 fields"),
    ("a.jsonl", rows("one") + b'{"body": "x"}\n', {}, "missing_column", 1, "a.jsonl:2: the row has no 'text'"),
    ("a.csv", b"body\nx\n", {}, "missing_column", 0, "a.csv: the row has no 'text'"),
    ("a.jsonl", rows("one") + b'{"text": 3}\n', {}, "wrong_type", 1, "a.jsonl:2: 'text' is no text"),
    ("a.jsonl", rows("one") + b'{"text": "\\ud83d"}\n', {}, "bad_unicode", 1, "a.jsonl:2: 'text' is no valid"),
    ("a.jsonl", CHAT % b"assistant" + CHAT % b"oracle", {"rows": Rows.messages}, "bad_role", 1, "the role 'oracle'"),
    ("a.jsonl", LABELLED % b"true" + LABELLED % b"null", {"rows": Rows.kto}, "bad_label", 1, "a.jsonl:2: 'label'"),
    ("a.jsonl", JUDGED % b"1.2" + JUDGED % b"null", {"rows": Rows.judged}, "bad_label", 1, "a.jsonl:2: 'preference'"),
    ("a.jsonl", JUDGED % b"2" + JUDGED % b"1.5", {"rows": Rows.judged}, "tie", 1, "a.jsonl:2: 'preference'"),
    ("a.jsonl.gz", gzip.compress(rows("one") + ZEROS, mtime=0) + gzip.compress(ZEROS, 1, mtime=0) * 12, {}, "zip_bomb",
     1, "zip bomb"),
    ("a.jsonl.zst", zstandard.compress(rows("one") + ZEROS) + zstandard.compress(ZEROS) * 12, {}, "zip_bomb", 1,
     "zip bomb"),
    ("a.jsonl.bz2", bz2.compress(rows("one") + ZEROS) + bz2.compress(ZEROS) * 9, {}, "zip_bomb", 1, "zip bomb"),
    ("a.jsonl.xz", lzma.compress(rows("one") + ZEROS, preset=0) + lzma.compress(ZEROS, preset=0) * 9, {}, "zip_bomb", 1,
     "zip bomb"),
]  # fmt: skip
IDS = [f"{name}-{reason}-{number}" for number, (name, _, _, reason, _, _) in enumerate(KINDS)]


@pytest.mark.parametrize(("name", "data", "settings", "reason", "kept", "said"), KINDS, ids=IDS)
def test_it_is_told_or_counted(
    tmp_path: Path, name: str, data: bytes, settings: dict[str, Any], reason: str, kept: int | None, said: str
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / name).write_bytes(data)
    config = FilesConfig(part="files", path=str(root), **settings)
    with pytest.raises(UserError) as error:
        made(tmp_path / "stop", config, Corrupt.stop)
    told = error.value.render()
    assert len(told.splitlines()) == 3
    assert said in told
    assert name in told.splitlines()[0]

    if config.rows is Rows.text:
        (root / "whole.txt").write_text("a file that is whole")
    else:
        (root / "whole.jsonl").write_bytes(data.splitlines(keepends=True)[0])
    out = made(tmp_path / "quarantine", config, Corrupt.quarantine)
    own = corpus.funnel(out)["sources"]["files"]
    assert set(own["damaged"]) == {reason}
    found = [document.id for document in corpus.documents(out)]
    assert any("whole" in each for each in found), "other files are read"
    count = sum("whole" not in each for each in found)
    assert (0 < count < 4000) if kept is None else count == kept
    lines = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in lines] == [reason] * sum(own["damaged"].values())
    assert all(name in line["fact"] and str(tmp_path) not in line["fact"] for line in lines)


def test_raw_line_separators_are_no_damage(tmp_path: Path) -> None:
    texts = ["one\u2028two", "three\u2029four", "five\x85six", "seven\x0beight\x0cnine", "ten\r\neleven"]
    root = tmp_path / "data"
    root.mkdir()
    (root / "a.jsonl").write_bytes(rows(*texts).replace(b"\n", b"\r\n"))
    (root / "b.json").write_text(json.dumps([{"text": text} for text in texts], ensure_ascii=False), encoding="utf-8")
    quoted = "".join(f'"{text}"\n' for text in texts)
    (root / "c.csv").write_bytes(f"text\n{quoted}".encode())
    for corrupt in Corrupt:
        out = made(tmp_path / corrupt.name, FilesConfig(part="files", path=str(root)), corrupt)
        assert [document.text for document in corpus.documents(out)] == texts * 3


@pytest.mark.parametrize("corrupt", Corrupt)
def test_an_empty_source_stops_either_way(tmp_path: Path, corrupt: Corrupt) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for name, data in (
        ("a.jsonl", b""),
        ("a.jsonl", b"\n \n"),
        ("a.csv", b"text\n"),
        ("b.jsonl.gz", gzip.compress(b"", mtime=0)),
    ):
        for old in root.iterdir():
            old.unlink()
        (root / name).write_bytes(data)
        with pytest.raises(UserError) as error:
            made(tmp_path / f"{name}{len(data)}", FilesConfig(part="files", path=str(root)), corrupt)
        assert len(error.value.render().splitlines()) == 3


def test_ranges_and_files_tell_the_same(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    bad = b'{"text": "caf\xe9"}\n{oops\n' + rows("x" * 900)
    (root / "a.jsonl").write_bytes((rows(*(f"row {n}" for n in range(30))) + bad) * 5)
    whole = FilesConfig(part="files", path=str(root), document_bytes=64, row_bytes=500)
    found = []
    for number, config in enumerate((whole, replace(whole, range_bytes=150))):
        out = made(tmp_path / str(number), config, Corrupt.quarantine)
        lines = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
        texts = [document.text for document in corpus.documents(out)]
        # The line is the same; the unit's name in it is the range's.
        told = [(line["reason"], line["fact"].rpartition(":")[2].split()[0], line["cause"]) for line in lines]
        found.append((texts, told))
    assert found[0] == found[1]
    assert len(found[0][1]) == 15


PEAK = """
import json, resource, sys
from lmgraft_files.plugin import FilesConfig
from lmgraft_files.source import Files
source = Files(FilesConfig(path=sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = [one for unit in source.units() for one in source.read(unit, 0)]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([peak >> 10, [type(one).__name__ for one in found], [getattr(one, "reason", "") for one in found]]))
"""


@pytest.mark.parametrize("pack", [None, gzip.compress])
def test_a_line_of_200_megabytes_is_read_past_in_bounded_memory(
    tmp_path: Path, pack: Callable[[bytes, int], bytes] | None
) -> None:
    piece = json.dumps([chr(97 + n % 26) * (n % 7) for n in range(20_000)]).encode()
    path = tmp_path / ("a.jsonl.gz" if pack else "a.jsonl")
    with open(path, "wb") as file:
        write = file.write if pack is None else lambda data: file.write(pack(data, 1))
        write(rows("one") + b'{"text": "')
        for _ in range((200 << 20) // len(piece)):
            write(piece)
        write(b'"}\n' + rows("two"))
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    peak, kinds, reasons = json.loads(done.stdout)
    assert kinds == ["Document", "Damaged", "Document"]
    assert reasons[1] == "too_long"
    assert peak < 150, "megabytes; a line takes 64 MiB at most"


RECIPE = """\
# Purpose: what the test runs.
# Hardware: any.
# Minutes: 0
# Expect: nothing.
defaults:
  - base
  - stage@corpus: corpus
  - data_source@corpus.sources: [files]
  - _self_
stages: [corpus]
device: cpu
data: {path: null}
corpus:
  workers: 1
  sources: {files: {path: "${data.path}"}}
"""


def test_the_command_line_ends_with_exit_code_2_or_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(rows("one") + b"{oops\n" + rows("two"))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(LINES, mtime=0)[:-30_000])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    command = [
        sys.executable,
        "-m",
        "lmgraft",
        "run",
        str(recipe),
        f"data.path=[{tmp_path}/a.jsonl,{tmp_path}/b.jsonl.gz]",
        f"store.dir={tmp_path}/store",
    ]
    stopped = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = stopped.stdout + stopped.stderr
    assert stopped.returncode == 2, told
    assert "Traceback" not in told
    assert "a.jsonl:2 is not valid JSON" in told
    command.append("corpus.corrupt=quarantine")
    going = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = " ".join((going.stdout + going.stderr).split())
    assert going.returncode == 0, told
    assert "warning: corpus.sources.files: passed over 1 bad_json, 1 truncated" in told
    assert "the rest of 1 file or range is lost" in told
