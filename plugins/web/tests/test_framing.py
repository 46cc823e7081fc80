"""Records of WARC and ARC in every packing, whole and broken; nothing is lost without a word."""

from __future__ import annotations

import gzip
import io
import re
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from lmgraft_web import archive_bytes
from lmgraft_web.archive_bytes import chunks
from lmgraft_web.conformance import record
from lmgraft_web.framing import HEADER, Broken, NoArchive, Record, read_records

RECORDS = [
    record("warcinfo", 0, b"software: x\r\n"),
    record("request", 1, b"GET / HTTP/1.1\r\n\r\n"),
    *(record("response", number, f"<p>page {number}</p>".encode() * number * 40) for number in range(2, 6)),
]
PLAIN = b"".join(RECORDS)
ARC = (
    b"filedesc://x.arc 0.0.0.0 20080430204825 text/plain 10\n0123456789\n"
    b"http://a.example/b c 10.0.0.1 20080430204826 text/html 43\n"
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n\n"
    b"dns:a.example 10.0.0.1 20080430204827 text/dns 4\nabcd\n"
)
Pack = Callable[[bytes], bytes]


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def lz4(data: bytes) -> bytes:
    stream_io = pytest.importorskip("fastwarc.stream_io")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.lz4"
        with stream_io.Lz4Writer(str(path)) as writer:
            writer.write(data)
        return path.read_bytes()


def read(data: bytes, limit: int = 1 << 20) -> tuple[list[Record], list[Broken]]:
    found = list(read_records(chunks(io.BytesIO(data)), limit))
    return [one for one in found if isinstance(one, Record)], [one for one in found if isinstance(one, Broken)]


def blocks(found: list[Record]) -> list[bytes]:
    return [one.head + one.block + b"\r\n\r\n" for one in found]


def told(found: list[Record], broken: list[Broken]) -> list[str]:
    return [one.fault for one in found if one.fault] + [one.reason for one in broken]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zst, lz4])
def test_a_member_a_record(pack: Pack) -> None:
    packed = list(map(pack, RECORDS))
    found, broken = read(b"".join(packed))
    assert blocks(found) == RECORDS
    assert not broken
    assert not any(one.fault for one in found)
    assert len({one.place for one in found}) == len(found)
    if pack is not lz4:
        assert [one.place for one in found] == [str(sum(map(len, packed[:n]))) for n in range(len(packed))]


@pytest.mark.parametrize("pack", [gzip.compress, zst, lz4])
def test_all_records_in_one_member(pack: Pack) -> None:
    found, broken = read(pack(PLAIN))
    assert blocks(found) == RECORDS
    assert not broken
    assert [one.place for one in found][:2] == ["0", f"0+{len(RECORDS[0])}"]


def test_members_that_cut_records_are_told() -> None:
    cut = len(RECORDS[0]) + len(RECORDS[1]) + 150
    found, broken = read(gzip.compress(PLAIN[:cut]) + gzip.compress(PLAIN[cut:]))
    assert blocks(found) == RECORDS
    assert [one.fault for one in found] == ["", "", "bad_members", "", "", ""]
    assert not broken


def test_a_dictionary_before_the_members() -> None:
    body = (PLAIN * 3)[:4000]
    trained = zstandard.ZstdCompressionDict(body, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    made = zstandard.ZstdCompressor(dict_data=trained)
    head = b"\x5d\x2a\x4d\x18" + len(body).to_bytes(4, "little") + body
    found, broken = read(head + b"".join(map(made.compress, RECORDS)))
    assert blocks(found) == RECORDS
    assert not broken


@pytest.mark.parametrize("pack", [gzip.compress, zst, lz4])
@pytest.mark.parametrize("at", [0.1, 0.3, 0.9, 0.999])
def test_a_broken_member_loses_its_record_only(pack: Pack, at: float) -> None:
    packed = list(map(pack, RECORDS))
    bad = bytearray(packed[3])
    bad[int(at * (len(bad) - 1))] ^= 0xFF
    found, broken = read(b"".join([*packed[:3], bytes(bad), *packed[4:]]))
    faulty = [one for one in found if one.fault]
    assert pack is lz4 or broken or faulty  # without a checksum only the record's digest tells
    whole = [one for one in blocks(found) if one in RECORDS]
    assert [one for one in RECORDS if one in whole] == whole
    assert set(RECORDS) - set(whole) <= {RECORDS[3]}
    assert all(re.fullmatch(r"[a-z0-9_]+", one.reason) and one.bytes > 0 for one in broken)


@pytest.mark.parametrize("pack", [gzip.compress, zst, lz4])
def test_a_file_cut_short_is_told(pack: Pack) -> None:
    packed = list(map(pack, RECORDS))
    data = b"".join(packed)
    for end in range(len(data) - len(packed[-1]) + 1, len(data)):
        found, broken = read(data[:end])
        assert told(found[5:], broken)[-1] in ("truncated", "bad_header"), end
        assert blocks(found)[:5] == RECORDS[:5]


def test_a_plain_file_cut_short_is_told() -> None:
    for end in range(len(PLAIN) - len(RECORDS[-1]) + 1, len(PLAIN) - 4):
        found, broken = read(PLAIN[:end])
        assert told(found[5:], broken), end


def test_bytes_between_members_and_padding() -> None:
    packed = list(map(gzip.compress, RECORDS))
    found, broken = read(b"".join([*packed[:2], b"noise\x1f\x8b\x08noise", *packed[2:], b"\0" * 100_000]))
    assert blocks(found) == RECORDS
    assert [(one.reason, one.place) for one in broken] == [("bad_gzip", str(len(packed[0] + packed[1])))]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"Content-Length: ", b"Content-Length: -", "bad_header"),
        (b"Content-Length: ", b"Content-Langth: ", "bad_header"),
        (b"WARC-Type: ", b"WARC-Tipe: ", "bad_header"),
        (b"WARC/1.0", b"WARG/1.0", "bad_header"),
        (b"\r\n\r\n<p>page 3", b"\r\n\r\n<p>", "bad_length"),
        (b"Content-Length: ", b"Content-Length: 1", "truncated"),
    ],
)
def test_a_broken_header_or_length(old: bytes, new: bytes, reason: str) -> None:
    bad = RECORDS[3].replace(old, new, 1)
    found, broken = read(b"".join([*RECORDS[:3], bad, *RECORDS[4:]]))
    assert {one.fault for one in found if one.fault} | {one.reason for one in broken} == {reason}
    assert [one for one in blocks(found) if one in RECORDS] == [*RECORDS[:3], *RECORDS[4:]]


def test_a_length_beyond_the_file_does_not_take_the_next_members() -> None:
    bad = RECORDS[3].replace(b"Content-Length: ", b"Content-Length: 99999", 1)
    found, _ = read(b"".join(map(gzip.compress, [*RECORDS[:3], bad, *RECORDS[4:]])), limit=1 << 40)
    assert [one.fault for one in found] == ["", "", "", "truncated", "", ""]


def test_an_endless_header_is_passed_over() -> None:
    bad = b"WARC/1.0\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"
    found, broken = read(bad + PLAIN)
    assert blocks(found) == RECORDS
    assert [one.reason for one in broken] == ["bad_header"]


def test_blocks_above_the_limit_are_not_held() -> None:
    big = record("response", 9, b"x" * 500_000)
    found, broken = read(b"".join(map(gzip.compress, [RECORDS[0], big, RECORDS[1]])), limit=10_000)
    assert [(len(one.block), one.length > 10_000, one.fault) for one in found[1:2]] == [(HEADER, True, "")]
    assert blocks([found[0], found[2]]) == RECORDS[:2]
    assert not broken


@pytest.mark.parametrize("pack", [gzip.compress, zst])
def test_bombs_come_in_small_pieces(pack: Pack) -> None:
    bomb = record("response", 9, b"\0" * (100 << 20))
    packed = pack(bomb)
    del bomb
    assert len(packed) < 1 << 20
    most, total = 0, 0
    for chunk in chunks(io.BytesIO(packed)):
        most, total = max(most, len(chunk.data)), total + len(chunk.data)
    assert total > 100 << 20
    assert most <= 33 << 20


def test_arc() -> None:
    for data in (ARC, gzip.compress(ARC)):
        found, broken = read(data)
        assert [one.type for one in found] == ["warcinfo", "response", "resource"]
        assert not broken
        assert not any(one.fault for one in found)
        assert b"WARC-Target-URI: http://a.example/b c\r\n" in found[1].head
        assert b"WARC-Date: 2008-04-30T20:48:26Z\r\n" in found[1].head
        assert found[1].block.startswith(b"HTTP/1.1 200 OK")


def test_arc_of_version_2() -> None:
    line = b"http://a.example/ 10.0.0.1 20080430204826 text/html 200 abc - 120 x.arc.gz 5\nhello\n"
    found, broken = read(ARC + line)
    assert (found[-1].type, found[-1].block, broken) == ("response", b"hello", [])


@pytest.mark.parametrize(
    "data", [b"<html>a page</html>" * 9, b"hello\n" * 99, gzip.compress(b"{}", mtime=0), b"\0" * 9 + b"x"]
)
def test_what_is_no_archive(data: bytes) -> None:
    with pytest.raises(NoArchive):
        read(data)


def test_pieces_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = b"".join(map(gzip.compress, RECORDS))
    expected = [(one.place, one.block, one.fault) for one in read(packed)[0]]
    for size in (1, 7, 100):
        monkeypatch.setattr(archive_bytes, "CHUNK", size)
        assert [(one.place, one.block, one.fault) for one in read(packed)[0]] == expected
        assert blocks(read(PLAIN)[0]) == RECORDS


def test_random_bytes_never_raise() -> None:
    packed = b"".join(map(gzip.compress, RECORDS))
    for seed in range(300):
        mixed = bytearray(PLAIN if seed % 2 else packed)
        place = zlib.crc32(str(seed).encode())
        for step in range(1 + seed % 4):
            mixed[(place * (step + 1)) % len(mixed)] = place >> 8 & 0xFF
        try:
            found, _ = read(bytes(mixed))
        except NoArchive:
            continue
        assert len({one.place for one in found}) == len(found)
