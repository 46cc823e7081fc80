"""``pdf``: text, pages, titles and hyphens; what is broken, locked, scanned, too large, too slow or deadly."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Damaged, Document
from lmgraft_pdf import child, reader
from lmgraft_pdf.conformance import pdf
from lmgraft_pdf.plugin import PdfConfig, PdfUnit
from lmgraft_pdf.source import Pdf, joined

DATA = Path(os.environ.get("LMGRAFT_TEST_DATA", "/nowhere")) / "misc" / "pdf"


def read(**settings: Any) -> list[Document | Damaged]:
    part = Pdf(PdfConfig(**settings))
    return [one for unit in part.units() for one in part.read(unit, 0)]


def texts(found: Sequence[Document | Damaged]) -> list[str]:
    return [one.text or "" if isinstance(one, Document) else f"damaged: {one.reason}" for one in found]


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(["First page\nwith two lines", "", "Second"], title="A title"))
    (found,) = read(path=str(tmp_path))
    assert isinstance(found, Document)
    assert (found.id, found.group) == ("a.pdf", "a.pdf")
    assert found.text == "First page\nwith two lines\n\nSecond"
    assert found.meta == {"pages": 3, "title": "A title"}
    assert texts(read(path=str(tmp_path), separator="\f")) == ["First page\nwith two lines\fSecond"]


def test_pages(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(["One", "", "Three"]))
    found = read(path=str(tmp_path / "a.pdf"), unit=PdfUnit.page)
    assert [(one.id, one.text, one.meta) for one in found if isinstance(one, Document)] == [
        ("a.pdf:1", "One", {"pages": 3, "page": 1}),
        ("a.pdf:3", "Three", {"pages": 3, "page": 3}),
    ]
    part = Pdf(PdfConfig(path=str(tmp_path), unit=PdfUnit.page))
    assert list(part.read(part.units()[0], 1)) == found[1:]


@pytest.mark.parametrize(
    ("text", "join", "expected"),
    [
        ("docu\x02mentation", True, "documentation"),
        ("docu\x02mentation", False, "docu-\nmentation"),
        ("FHS\x02compliant x\x02Y 3\x024", True, "FHS-compliant x-Y 3-4"),
        ("end\x02", True, "end-"),
        ("no hyphen", True, "no hyphen"),
    ],
)
def test_words_that_a_line_end_parts(text: str, join: bool, expected: str) -> None:
    assert joined(text, join) == expected


def test_hyphens_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(["a long docu-\nmentation of x"]))
    assert texts(read(path=str(tmp_path))) == ["a long documentation of x"]
    assert texts(read(path=str(tmp_path), join_hyphens=False)) == ["a long docu-\nmentation of x"]


def test_what_is_damaged(tmp_path: Path) -> None:
    whole = pdf(["Whole"])
    locked = "/Encrypt << /Filter /Standard /V 1 /R 2 /O (" + "o" * 32 + ") /U (" + "u" * 32 + ") /P -4 >> "
    locked += "/ID [(0123456789abcdef) (0123456789abcdef)]"
    files = {
        "cut.pdf": whole[:100],
        "empty.pdf": b"",
        "html.pdf": b"<html>",
        "locked.pdf": pdf(["Secret"], trailer=locked),
        "many.pdf": pdf([f"Page {number}" for number in range(12)]),
        "scan.pdf": pdf(["", ""]),
        "large.pdf": whole + b"\n" * 30_000,
        "whole.pdf": whole,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    found = read(path=str(tmp_path), max_pages=10, file_bytes=20_000)
    told = dict(zip(sorted(files), texts(found), strict=True))
    assert told == {
        "cut.pdf": "damaged: bad_pdf",
        "empty.pdf": "damaged: bad_pdf",
        "html.pdf": "damaged: bad_pdf",
        "large.pdf": "damaged: too_long",
        "locked.pdf": "damaged: encrypted",
        "many.pdf": "damaged: too_long",
        "scan.pdf": "damaged: no_text",
        "whole.pdf": "Whole",
    }
    for name, one in zip(sorted(files), found, strict=True):
        assert isinstance(one, Document) or name in one.problem.fact


def test_random_bytes_never_raise(tmp_path: Path) -> None:
    whole = pdf(["Some text on a page", "And more of it"], title="t")
    for seed in range(40):
        mixed = bytearray(whole)
        for step in range(1 + seed % 5):
            mixed[(seed * 7919 + step * 104_729) % len(mixed)] = (seed * 31 + step) % 256
        (tmp_path / f"{seed}.pdf").write_bytes(bytes(mixed))
    found = read(path=str(tmp_path))
    assert len(found) >= 40


CHILD = "import sys, time, os, signal\nfor line in sys.stdin:\n    {}\n"


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed"),
        ("sys.exit(3)", "crashed"),
        ("time.sleep(60)", "too_slow"),
    ],
)
def test_a_child_that_dies_or_hangs(tmp_path: Path, deed: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child of the test's own stands where PDFium's is: no PDF at hand kills PDFium."""
    (tmp_path / "a.pdf").write_bytes(pdf(["A"]))
    (tmp_path / "b.pdf").write_bytes(pdf(["B"]))
    real = reader.subprocess.Popen
    started: list[Any] = []

    def start(command: Any, **options: Any) -> Any:
        bad = [sys.executable, "-c", CHILD.format(deed)]
        started.append(real(command if started else bad, **options))
        return started[-1]

    monkeypatch.setattr(reader.subprocess, "Popen", start)
    part = Pdf(PdfConfig(path=str(tmp_path), seconds=1 if reason == "too_slow" else 60))
    part.reader = reader.Reader(1024)
    began = time.monotonic()
    found = [one for unit in part.units() for one in part.read(unit, 0)]
    part.reader.close()
    assert time.monotonic() - began < 20
    assert texts(found) == [f"damaged: {reason}", "B"]
    assert len(started) == 2
    assert all(child.poll() is not None for child in started)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux")
def test_pages_are_read_until_the_text_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(pdf(["twelve chars"] * 9))
    read_pages: list[int] = []
    page = child._page
    monkeypatch.setattr(child, "MOST", 30)
    monkeypatch.setattr(child, "_page", lambda document, number: read_pages.append(number) or page(document, number))
    assert child.extract(str(file), 100)["error"][0] == "too_long"
    assert len(read_pages) == 3


def test_memory_is_bounded(tmp_path: Path) -> None:
    import zlib

    packed = zlib.compress(b"BT /F1 12 Tf 14 TL 72 700 Td " + b"(a b c) Tj " * 40_000_000 + b" ET", 1)
    whole = pdf(["x"]).decode("latin-1")
    start, end = whole.index("<< /Length"), whole.index("endstream")
    bomb = f"<< /Length {len(packed)} /Filter /FlateDecode >>\nstream\n".encode() + packed + b"\n"
    (tmp_path / "bomb.pdf").write_bytes(whole[:start].encode("latin-1") + bomb + whole[end:].encode("latin-1"))
    (tmp_path / "c.pdf").write_bytes(pdf(["After it"]))
    found = texts(read(path=str(tmp_path), memory_mb=256, seconds=20))
    assert found[0].startswith("damaged: ")
    assert found[1] == "After it"


def test_the_child_ends_with_its_parent() -> None:
    code = (
        "from lmgraft_pdf.reader import Reader; import os\n"
        "r = Reader(1024); r.read('/nowhere.pdf', 1, 30); print(r._child.pid, flush=True); os._exit(0)"
    )
    import subprocess

    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    pid = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
                return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the child is still there")


def test_which_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.pdf", "in/B.PDF", "in/notes.txt", "in/.hidden.pdf"):
        (tmp_path / name).write_bytes(pdf([name]))
    assert texts(read(path=str(tmp_path))) == ["a.pdf", "in/B.PDF"]
    assert texts(read(path=str(tmp_path / "**" / "*.PDF"))) == ["in/B.PDF"]
    assert texts(read(path=[str(tmp_path / "in" / "notes.txt"), str(tmp_path)])) == [
        "in/notes.txt",
        "a.pdf",
        "in/B.PDF",
    ]
    with pytest.raises(UserError, match="nothing to read"):
        read(path=str(tmp_path / "*.doc"))
    with pytest.raises(UserError, match="is not set"):
        read()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"path": "/no/such.pdf"}, "does not exist"),
        ({"path": 7}, "path is 7"),
        ({"path": []}, "empty list"),
        ({"max_pages": 0}, "max_pages is 0"),
        ({"memory_mb": 1}, "memory_mb is 1"),
        ({"seconds": 0}, "seconds is 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], said: str) -> None:
    (problem,) = PdfConfig(**settings).check()
    assert said in str(problem)


@pytest.mark.skipif(not DATA.is_dir(), reason="LMGRAFT_TEST_DATA is not set")
def test_real_files() -> None:
    faq, fhs = read(path=str(DATA))
    assert isinstance(faq, Document)
    assert isinstance(fhs, Document)
    assert faq.meta == {"pages": 73, "title": "The Debian GNU/Linux FAQ"}
    assert "other documentation will" in (faq.text or "")
    assert "Generally, all data required to support a package on a system must be present" in (fhs.text or "")
    assert len(read(path=str(DATA), unit=PdfUnit.page)) == 66 + 50
