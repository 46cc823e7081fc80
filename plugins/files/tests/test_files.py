"""Files of every kind, whole and in ranges, and what is said about bad ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Damaged, DataSource, Document
from lmgraft_files.plugin import FilesConfig, Rows, lmgraft_data_source
from lmgraft_files.source import Files

ROWS = [
    {"text": "one"},
    {"text": "zwei\u2028drei", "n": 2},
    {"text": "", "x": [1]},
    {"text": "日本", "ok": True, "z": None},
]


def files(path: object, **settings: object) -> Files:
    config = FilesConfig(path=str(path) if isinstance(path, Path) else path, **settings)  # type: ignore[arg-type]
    assert not list(config.check())
    return Files(config)


def documents(source: Files) -> list[Document]:
    """All of them; the first that is damaged is raised."""
    found = []
    for unit in source.units():
        for one in source.read(unit, 0):
            if isinstance(one, Damaged):
                raise UserError(one.problem)
            found.append(one)
    return found


def found_in(source: Files) -> list[Document | Damaged]:
    return [found for unit in source.units() for found in source.read(unit, 0)]


def texts(source: Files) -> list[str | None]:
    return [document.text for document in documents(source)]


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        work()
    assert all(len(str(problem).splitlines()) == 3 for problem in caught.value.problems)
    return str(caught.value)


def jsonl(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def as_parquet(path: Path, rows: list[dict[str, object]], **options: object) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


# --- formats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", jsonl(ROWS)),
        ("a.ndjson", jsonl(ROWS).replace(b"\n", b"\r\n\r\n").removesuffix(b"\r\n\r\n")),
        ("a.jsonl", b"\xef\xbb\xbf" + jsonl(ROWS)),
        ("a.jsonl.gz", gzip.compress(jsonl(ROWS[:1]), mtime=0) + gzip.compress(jsonl(ROWS[1:]), mtime=0)),
        ("a.jsonl.zst", zstandard.compress(jsonl(ROWS[:1])) + zstandard.compress(jsonl(ROWS[1:]))),
        ("a.json", json.dumps(ROWS, indent=2).encode()),
        ("a.json", b"\xef\xbb\xbf \n" + json.dumps(ROWS, ensure_ascii=False).encode()),
        ("a.json", jsonl(ROWS)),
        ("A.JSON.GZ", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
    ],
)
def test_rows_of_every_format(tmp_path: Path, name: str, data: bytes) -> None:
    path = write(tmp_path / name, data)
    found = documents(files(path))
    assert [document.text for document in found] == [row["text"] for row in ROWS]
    assert [document.id for document in found] == [f"{name}:{number}" for number in range(4)]
    assert [document.group for document in found] == [document.id for document in found]
    assert [document.meta for document in found] == [{}, {"n": 2}, {}, {"ok": True}]


def test_parquet_rows(tmp_path: Path) -> None:
    rows = [{"text": f"row {n}", "n": n, "inner": {"t": f"in {n}"}, "vector": [0.0]} for n in range(1000)]
    path = as_parquet(tmp_path / "a.parquet", rows, row_group_size=300)
    source = files(path)
    found = documents(source)
    assert [document.text for document in found] == [row["text"] for row in rows]
    assert found[7].meta == {"n": 7}
    assert texts(files(path, text="inner.t"))[999] == "in 999"
    for offset in (0, 1, 299, 300, 301, 650, 1000, 1001):
        assert list(source.read(source.units()[0], offset)) == found[offset:]


def test_a_dictionary_column_is_text(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "a.parquet")
    assert texts(files(tmp_path)) == ["a", "b", "a"]


def test_other_keys_dotted_keys_and_groups(tmp_path: Path) -> None:
    rows = [{"body": {"raw": "x"}, "site": "s1", "text": "not this"}, {"body.raw": "y", "site": 7}]
    source = files(write(tmp_path / "a.jsonl", jsonl(rows)), text="body.raw", group="site")
    assert [(document.text, document.group) for document in documents(source)] == [("x", "s1"), ("y", "7")]


def test_chats(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo", "weight": 0}]
    write(tmp_path / "a.jsonl", jsonl([{"messages": chat, "lang": "en"}]))
    plain = [{"role": "user", "content": "Hi", "name": None}]
    as_parquet(tmp_path / "b.parquet", [{"messages": plain}])
    write(tmp_path / "notes.txt", b"no chat")
    source = files(tmp_path, rows=Rows.messages)
    first, second = documents(source)
    assert (first.messages, first.text, first.meta) == (chat, None, {"lang": "en"})
    assert second.messages == [{"role": "user", "content": "Hi"}]
    assert source.config.provides() == {"columns:messages"}


def test_pairs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl([{"prompt": "p", "chosen": "c", "rejected": "r", "score": 0.5}]))
    (document,) = documents(files(path, rows=Rows.pairs))
    assert (document.prompt, document.chosen, document.rejected, document.text) == ("p", "c", "r", None)
    assert document.meta == {"score": 0.5}


# --- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress, zstandard.compress])
def test_text_is_cut_at_blank_lines(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    paragraphs = ["a" * 40 + "\n\n", "b" * 40 + "\r\n\r\n", "c" * 30 + "\n \n\n", "d" * 100]
    suffix = {gzip.compress: ".gz", zstandard.compress: ".zst"}.get(pack, "")
    path = write(tmp_path / f"a.txt{suffix}", pack("".join(paragraphs).encode()))
    source = files(path, document_bytes=90)
    found = documents(source)
    assert [document.text for document in found] == [paragraphs[0] + paragraphs[1], paragraphs[2], "d" * 90, "d" * 10]
    assert {document.group for document in found} == {path.name}
    for offset in range(6):
        assert list(source.read(source.units()[0], offset)) == found[offset:]


def test_a_small_text_is_one_document_without_its_byte_order_mark(tmp_path: Path) -> None:
    source = files(write(tmp_path / "a.md", b"\xef\xbb\xbfeins\r\n\r\nzwei"))
    assert texts(source) == ["eins\r\n\r\nzwei"]


def test_long_paragraphs_are_cut_at_lines_then_spaces_then_characters(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", ("x" * 60 + "\n" + "y" * 60 + " " + "é" * 50).encode())
    assert texts(files(path, document_bytes=71)) == ["x" * 60 + "\n", "y" * 60 + " ", "é" * 35, "é" * 15]


# --- finding --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for name in ("b.txt", "a/z.md", "a/code.py", "a/x.log", ".hidden.txt", ".git/c.txt", "empty.txt"):
        write(root / name, b"" if name == "empty.txt" else name.encode())
    (root / "a" / "loop").symlink_to(root)
    return root


def ids(source: Files) -> list[str]:
    return [unit.id for unit in source.units()]


def test_a_folder_is_read_with_all_below_it(folder: Path) -> None:
    source = files(folder)
    assert ids(source) == ["a/z.md", "b.txt"]
    assert all(Path(unit.path or "").is_absolute() for unit in source.units())
    assert ids(files(folder, suffixes=["py", ".log"])) == ["a/code.py", "a/x.log", "a/z.md", "b.txt"]


def test_a_moved_folder_is_the_same_input(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(files(folder))
    moved = folder.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert ids(files(moved)) == ids(files("elsewhere")) == before


def test_globs_and_lists(folder: Path) -> None:
    assert ids(files(f"{folder}/**/*.md")) == ["a/z.md"]
    assert ids(files(f"{folder}/*/*.log")) == ["a/x.log"]  # named by its ending
    assert ids(files(f"{folder}/a/*")) == ["loop/b.txt", "z.md"]
    assert ids(files(f"{folder}/a/code.py")) == ["code.py"]
    assert ids(files([f"{folder}/b.txt", f"{folder}/a/z.md", str(folder)])) == ["0/b.txt", "1/z.md"]


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    assert texts(files(write(tmp_path / "a[1].txt", b"x"))) == ["x"]


def test_large_files_come_in_ranges_of_one_group(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", jsonl([{"text": "x" * 50}] * 10))
    write(tmp_path / "a.jsonl.gz", gzip.compress(jsonl(ROWS), mtime=0))
    write(tmp_path / "b.txt", b"word " * 50)
    source = files(tmp_path, document_bytes=64, range_bytes=100)
    units = source.units()
    assert [unit.id for unit in units[:3]] == ["a.jsonl@0", "a.jsonl@100", "a.jsonl@200"]
    assert [unit.id for unit in units[-4:]] == ["a.jsonl.gz", "b.txt@0", "b.txt@100", "b.txt@200"]
    found = documents(source)
    assert len(found) == len({document.id for document in found})
    assert {document.group for document in found if document.id.startswith("b.txt")} == {"b.txt"}


# --- refusals -------------------------------------------------------------------------------------------------------


def test_paths_that_give_nothing(tmp_path: Path, folder: Path) -> None:
    assert "nope does not exist" in refusal(Files(FilesConfig(path=str(tmp_path / "nope"))).units)
    assert "is empty" in refusal(Files(FilesConfig(path=str(folder / "empty.txt"))).units)
    assert "only empty files" in refusal(Files(FilesConfig(path=f"{folder}/empty*")).units)
    assert "matches nothing" in refusal(Files(FilesConfig(path=f"{folder}/*.nope")).units)
    write(tmp_path / "other" / "a.bin", b"x")
    message = refusal(Files(FilesConfig(path=str(tmp_path / "other"))).units)
    assert ".arrow, .csv, .json, .jsonl, .md, .ndjson, .parquet, .rst, .text, .tsv, .txt" in message
    assert "files.rows=pairs" in refusal(Files(FilesConfig(path=str(folder / "b.txt"), rows=Rows.pairs)).units)
    assert "not set" in refusal(Files(FilesConfig()).units)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', ("a.jsonl:3 is not valid JSON", "Expecting value")),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', ("a.jsonl:2 is no JSON object", "[1]")),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"Text": "b"}\n',
            ("a.jsonl:2: ", "it has Text", "files.text=Text"),
        ),
        ("a.jsonl", b'{"messages": []}\n', ("a.jsonl:1: ", "files.rows=messages")),
        ("a.jsonl", b'{"text": null}\n', ("a.jsonl:1: 'text' is no text", "it is null")),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', ("a.jsonl:1: 'text' is no valid Unicode", "surrogate")),
        ("a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', ("a.jsonl:2 is not UTF-8", "0xe9 at offset 27")),
        ("a.json", b'[{"text": "a"},\n{"text": }]', ("a.json:2 is not valid JSON", "Expecting value")),
        ("a.json", b'[{"text": "a"}\n', ("a.json:2 is not valid JSON", "ends too early")),
        ("a.json", b'[{"text": "a"}]\n,', ("a.json:2 is not valid JSON", "after the list's end")),
        ("a.json", b'[{"text": "a"}, 3]', ("a.json:1 is no JSON object",)),
        ("a.json", b'[{"text": "a"},\n{"text": "\xff"}]', ("a.json:2 is not UTF-8", "0xff at offset 26")),
        ("a.json", b'{"text":\n "a"}', ("a.json:1 is not valid JSON", "list of objects")),
        ("a.json", b'["' + b"[" * 100_000, ("a.json:1 is not valid JSON",)),
        ("a.json", b"[" * 100_000, ("a.json:1 is not valid JSON", "recursion")),
        ("a.txt", b"eins\nzw\xf6lf\n", ("a.txt:2 is not UTF-8", "0xf6 at offset 7", "latin1")),
        ("a.txt", "x".encode("utf-16"), ("a.txt:1 is not UTF-8", "-f utf-16")),
        ("a.txt.gz", gzip.compress(b"x" * 9999, mtime=0)[:-9], ("a.txt.gz is corrupt or cut short",)),
        ("a.txt.gz", b"plain", ("a.txt.gz is corrupt or cut short", "gzip")),
        ("a.txt.zst", zstandard.compress(bytes(range(256)) * 99)[:-9], ("a.txt.zst is corrupt or cut short",)),
        ("a.txt.zst", b"plain text here", ("a.txt.zst is corrupt or cut short",)),
        ("a.parquet", b"PAR1 nothing", ("a.parquet cannot be read as Parquet",)),
    ],
)
def test_bad_content_is_named(tmp_path: Path, name: str, data: bytes, said: tuple[str, ...]) -> None:
    message = refusal(lambda: documents(files(write(tmp_path / name, data))))
    for part in said:
        assert part in message


def test_bad_parquet_rows_are_named(tmp_path: Path) -> None:
    path = as_parquet(tmp_path / "a.parquet", [{"content": "a", "text_": 1}])
    assert "files.text=text_" in refusal(lambda: documents(files(path)))
    as_parquet(path, [{"text": "a"}, {"text": None}])
    assert "a.parquet (row 2): 'text' is no text" in refusal(lambda: documents(files(path)))
    pq.write_table(pa.table({"text": pa.array([b"\xff"]).cast(pa.string(), safe=False)}), path)
    assert "a.parquet (row 1) is not UTF-8" in refusal(lambda: documents(files(path)))


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "an empty list"),
        ("hi", "a text"),
        (["hi"], "message 1 is no object"),
        ([{"role": "user"}], "message 1 has no 'content'"),
        ([{"role": "user", "content": None}], "'content' of message 1 is no text"),
        ([{"role": 1, "content": "x"}], "'role' of message 1 is no text"),
    ],
)
def test_bad_chats_are_named(tmp_path: Path, messages: object, said: str) -> None:
    path = write(tmp_path / "a.jsonl", jsonl([{"messages": messages}]))
    assert said in refusal(lambda: documents(files(path, rows=Rows.messages)))


def test_the_line_is_right_in_a_range_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl([{"text": "x" * 30}] * 9) + b"{oops\n")
    source = files(path, document_bytes=64, range_bytes=64)
    assert "a.jsonl:10 is not valid JSON" in refusal(lambda: documents(source))


# --- settings -------------------------------------------------------------------------------------------------------


def problems(**settings: object) -> str:
    return "\n".join(str(problem) for problem in FilesConfig(**settings).check())  # type: ignore[arg-type]


def test_settings_are_checked(tmp_path: Path) -> None:
    assert problems() == ""
    assert problems(path=f"{tmp_path}/*.txt") == ""  # what a pattern matches is looked up when the work begins
    for path in (3, {"a": 1}, [""], [str(tmp_path), 2], ""):
        assert "expected a file, a folder or a glob" in problems(path=path)
    assert "empty list" in problems(path=[])
    assert "nope does not exist" in problems(path=[str(tmp_path), str(tmp_path / "nope")])
    assert "group is empty" in problems(group="")
    assert "text is empty" in problems(text="")
    assert "suffixes holds" in problems(suffixes=["."])
    assert len(problems(document_bytes=1, range_bytes=0).splitlines()) == 2


def test_ready_means_pointed_at_something(tmp_path: Path) -> None:
    assert not FilesConfig().ready()
    assert FilesConfig(path=str(tmp_path)).ready()


def test_the_hook_offers_a_data_source() -> None:
    (component,) = lmgraft_data_source()
    assert component.name == "files"
    assert isinstance(files(None), DataSource)
