"""``common_crawl`` on files: documents, damage in place, listings; real archives beside warcio."""

from __future__ import annotations

import gzip
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Damaged, Document
from lmgraft_web.archive_bytes import chunks
from lmgraft_web.common_crawl import CommonCrawl
from lmgraft_web.conformance import record
from lmgraft_web.framing import Record, read_records
from lmgraft_web.payload import digest_holds
from lmgraft_web.plugin import CommonCrawlConfig

DATA = Path(os.environ.get("LMGRAFT_TEST_DATA", "/nowhere")) / "html" / "warc"
real = pytest.mark.skipif(not DATA.is_dir(), reason="LMGRAFT_TEST_DATA is not set")
PAGES = [f"<html><p>page {number}</p></html>" for number in range(5)]


def write(file: Path, records: Sequence[bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if file.suffix == ".gz" else bytes
    file.write_bytes(b"".join(map(pack, records)))
    return file


def responses() -> list[bytes]:
    return [record("response", number, page.encode()) for number, page in enumerate(PAGES)]


def read(**settings: Any) -> list[Document | Damaged]:
    source = CommonCrawl(CommonCrawlConfig(**settings))
    return [one for unit in source.units() for one in source.read(unit, 0)]


def texts(found: Sequence[Document | Damaged]) -> list[str]:
    return [one.text or "" if isinstance(one, Document) else f"damaged: {one.reason}" for one in found]


def test_documents(tmp_path: Path) -> None:
    write(tmp_path / "a.warc.gz", responses())
    found = read(path=str(tmp_path))
    assert texts(found) == PAGES
    assert isinstance(found[1], Document)
    assert found[1].group == "example1.com"
    assert found[1].meta["url"] == "http://example1.com/1"
    assert found[1].meta["charset"] == "utf-8"
    assert found[1].meta["record_id"].endswith("000000000001>")
    assert found[0].id == "a.warc.gz:0"  # type: ignore[union-attr]


def test_what_is_damaged_stands_in_its_place(tmp_path: Path) -> None:
    made = responses()
    made[1] = made[1].replace(b"page 1", b"pagE 1")
    made[3] = made[3].replace(b"Content-Length: ", b"Content-Langth: ")
    write(tmp_path / "a.warc", made)
    found = read(path=str(tmp_path))
    assert texts(found) == [PAGES[0], "damaged: bad_digest", PAGES[2], "damaged: bad_header", PAGES[4]]
    problem = found[1].problem  # type: ignore[union-attr]
    assert "a.warc" in problem.fact
    assert str(len(made[0])) in problem.fact
    assert texts(read(path=str(tmp_path), verify=False))[1] == PAGES[1].replace("page", "pagE")


def test_offsets_count_documents_only(tmp_path: Path) -> None:
    made = responses()
    made[1] = made[1].replace(b"page 1", b"pagE 1")
    write(tmp_path / "a.warc.gz", made)
    source = CommonCrawl(CommonCrawlConfig(path=str(tmp_path)))
    (unit,) = source.units()
    whole = list(source.read(unit, 0))
    assert list(source.read(unit, 1)) == whole[1:]
    assert list(source.read(unit, 2)) == whole[3:]
    assert list(source.read(unit, 9)) == []


def test_too_long_records_are_counted(tmp_path: Path) -> None:
    big = record("response", 9, b"<p>" + b"x" * 9000)
    image = record("resource", 8, b"x" * 9000, Content_Type="image/png")
    write(tmp_path / "a.warc.gz", [*responses()[:1], big, image, *responses()[1:]])
    assert texts(read(path=str(tmp_path), record_bytes=4000)) == [PAGES[0], "damaged: too_long", *PAGES[1:]]


def test_empty_files_and_other_formats(tmp_path: Path) -> None:
    write(tmp_path / "a.warc", [])
    assert texts(read(path=str(tmp_path))) == ["damaged: empty"]
    (tmp_path / "a.warc").write_text("<html>", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.warc is no web archive"):
        read(path=str(tmp_path))


def test_which_files_are_read(tmp_path: Path) -> None:
    write(tmp_path / "in" / "b.warc.gz", responses()[:1])
    write(tmp_path / "in" / "deep" / "a.WARC", responses()[1:2])
    write(tmp_path / "in" / "notes.txt", [b"x"])
    write(tmp_path / "in" / "named.bin", responses()[2:3])
    assert texts(read(path=str(tmp_path / "in"))) == [PAGES[0], PAGES[1]]
    assert texts(read(path=str(tmp_path / "in" / "*.warc.gz"))) == [PAGES[0]]
    assert texts(read(path=[str(tmp_path / "in" / "named.bin"), str(tmp_path / "in" / "deep")])) == [PAGES[2], PAGES[1]]
    with pytest.raises(UserError, match="nothing to read"):
        read(path=str(tmp_path / "in" / "*.arc"))


def test_a_listing_of_local_files(tmp_path: Path) -> None:
    write(tmp_path / "base" / "x" / "b.warc.gz", responses()[:1])
    write(tmp_path / "base" / "x" / "a.warc.gz", responses()[1:2])
    listing = tmp_path / "warc.paths.gz"
    listing.write_bytes(gzip.compress(b"x/b.warc.gz\n\n# no more\nx/a.warc.gz\n"))
    settings = {"listing": str(listing), "base": str(tmp_path / "base")}
    assert texts(read(**settings)) == [PAGES[1], PAGES[0]]
    assert texts(read(**settings, first=1)) == [PAGES[0]]
    for line in ("../x.warc", "/etc/passwd", "file:///etc/passwd", "x/missing.warc"):
        listing.write_text(line, encoding="utf-8")
        with pytest.raises(UserError, match=r"common_crawl\.listing"):
            read(**settings)
    listing.write_bytes(b"\n")
    with pytest.raises(UserError, match="names no archive"):
        read(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"path": 3}, "path is 3"),
        ({"path": []}, "empty list"),
        ({"path": "/no/such/file.warc"}, "does not exist"),
        ({"path": "s3://bucket/x.warc"}, "cannot be read"),
        ({"path": "file:///etc/passwd"}, "cannot be read"),
        ({"mime": []}, "mime is empty"),
        ({"mime": ["html"]}, "TYPE/SUBTYPE"),
        ({"status": [20]}, "status holds 20"),
        ({"first": -1}, "first is -1"),
        ({"record_bytes": 1}, "record_bytes is 1"),
        ({"timeout": 0}, "timeout is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"base": ""}, "base is empty"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], said: str) -> None:
    (problem,) = CommonCrawlConfig(**settings).check()
    assert said in str(problem)


def test_defaults_are_sound_and_read_nothing() -> None:
    config = CommonCrawlConfig()
    assert not list(config.check())
    assert not config.ready()
    with pytest.raises(UserError, match="is not set"):
        CommonCrawl(config).units()


# --- real archives ----------------------------------------------------------------------------------------------------


def theirs(file: Path) -> tuple[Counter[str], dict[str, bool | None]]:
    """warcio's records by type, and of each payload digest whether it holds; it ends at what it cannot read."""
    from fastwarc.stream_io import Lz4Reader
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    data = Lz4Reader(str(file)).read(1 << 28) if file.suffix == ".lz4" else file.read_bytes()
    counts: Counter[str] = Counter()
    digests: dict[str, bool | None] = {}
    try:
        for one in ArchiveIterator(io.BytesIO(data), check_digests=True, arc2warc=True):
            one.raw_stream.read()
            counts[one.rec_type] += 1
            if one.rec_headers.get_header("WARC-Payload-Digest") and one.rec_type != "revisit":
                digests[one.rec_headers.get_header("WARC-Record-ID")] = one.digest_checker.passed
    except ArchiveLoadFailed:
        pass
    return counts, digests


def ours(file: Path) -> tuple[Counter[str], dict[str, bool | None]]:
    counts: Counter[str] = Counter()
    digests: dict[str, bool | None] = {}
    with file.open("rb") as raw:
        for one in read_records(chunks(raw), 1 << 24):
            assert isinstance(one, Record)
            counts[one.type] += 1
            if b"WARC-Payload-Digest" in one.head and one.type != "revisit":
                name = one.head.partition(b"WARC-Record-ID: ")[2].partition(b"\r\n")[0].decode()
                digests[name] = digest_holds(one)
    return counts, digests


@real
@pytest.mark.parametrize("file", sorted(DATA.iterdir()) if DATA.is_dir() else [], ids=lambda file: file.name)
def test_records_and_digests_are_warcio_s(file: Path) -> None:
    pytest.importorskip("warcio")
    found, expected = ours(file), theirs(file)
    if file.name == "example-wrong-chunks.warc.gz":  # warcio gives up inside it; both its records are there
        assert expected[0] == {"response": 1}
        assert found[0] == {"response": 1, "request": 1}
        return
    assert found == expected
    assert found[0].total() > 1


@real
def test_real_archives_give_their_pages() -> None:
    found = read(path=[str(file) for file in sorted(DATA.iterdir())])
    by_file: Counter[str] = Counter()
    for one in found:
        name = one.id.rpartition(":")[0] if isinstance(one, Document) else one.problem.fact.split(": ")[1]
        by_file[f"{name.partition('/')[2]} {'page' if isinstance(one, Document) else one.reason}"] += 1
    assert by_file == {
        "cc-main-2020-34-part.warc.gz page": 16,
        "cc-main-2020-34-part.warc.lz4 page": 16,
        "dolma-sample-0000.warc.gz page": 22,
        "example-trunc.warc bad_length": 1,
        "example-wrong-chunks.warc.gz bad_length": 1,
        "example.arc.gz page": 1,
        "example.warc page": 1,
        "example.warc.gz page": 1,
    }
    assert not any(one.meta.get("replaced") for one in found if isinstance(one, Document))
