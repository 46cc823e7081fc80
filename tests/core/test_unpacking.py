"""Archives of every kind: whole, of several members, cut anywhere, broken, and those that expand without end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from lmgraft.unpacking import COMPRESSED, Corrupt, ZipBomb, unpacked

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
DATA = random.Random(2).randbytes(140_000) + b"text " * 30_000


def read(path: Path, data: bytes, kind: str, expansion: int = 200) -> bytes:
    path.write_bytes(data)
    with unpacked(str(path), kind, expansion) as stream:
        return stream.read()


def test_every_kind_is_tried() -> None:
    assert set(PACK) == set(COMPRESSED)


@pytest.mark.parametrize("kind", PACK)
def test_members_follow_one_another(tmp_path: Path, kind: str) -> None:
    pack = PACK[kind]
    assert read(tmp_path / "a", pack(DATA), kind) == DATA
    assert read(tmp_path / "a", b"".join(pack(part) for part in (DATA, b"", b"x", DATA)), kind) == DATA + b"x" + DATA
    assert read(tmp_path / "a", pack(b""), kind) == b""
    assert read(tmp_path / "a", pack(b"one") + bytes(512) + pack(b"two") + bytes(700_000), kind) == b"onetwo"


@pytest.mark.parametrize("kind", PACK)
def test_a_cut_is_seen_wherever_it_is(tmp_path: Path, kind: str) -> None:
    whole = PACK[kind](DATA)
    second = whole + PACK[kind](b"the second member")
    for cut in (*range(1, 24), len(whole) // 2, *range(len(whole) - 12, len(whole))):
        with pytest.raises(Corrupt):
            read(tmp_path / "a", whole[:cut], kind)
    for cut in range(len(whole) + 1, len(second)):
        with pytest.raises(Corrupt):
            read(tmp_path / "a", second[:cut], kind)


@pytest.mark.parametrize("kind", PACK)
def test_rubbish_is_seen(tmp_path: Path, kind: str) -> None:
    for data in (b"plain text", PACK[kind](DATA) + b"rubbish behind it", b"\xff" * 64):
        with pytest.raises(Corrupt):
            read(tmp_path / "a", data, kind)


def test_lines_before_a_cut_are_given(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\nthree\n")[:-4])
    with unpacked(str(tmp_path / "a"), ".gz", 200) as stream:
        assert stream.readline() == b"one\n"
        with pytest.raises(Corrupt, match="middle") as error:
            stream.read()
    assert error.value.truncated


@pytest.mark.parametrize("kind", PACK)
def test_a_bomb_is_stopped(tmp_path: Path, kind: str) -> None:
    bomb = PACK[kind](bytes(8 << 20))
    (tmp_path / "a").write_bytes(bomb * 40)
    with unpacked(str(tmp_path / "a"), kind, 200) as stream, pytest.raises(ZipBomb) as error:
        stream.read()
    assert 200 * error.value.read < error.value.gave < 200 << 20
    # What expands as much and is small is harmless.
    assert len(read(tmp_path / "b", bomb * 7, kind)) == 56 << 20


def test_a_bomb_behind_sound_data_is_stopped(tmp_path: Path) -> None:
    sound = gzip.compress(random.Random(1).randbytes(100_000))
    with pytest.raises(ZipBomb):
        read(tmp_path / "a", sound + gzip.compress(bytes(90 << 20)), ".gz")
    assert isinstance(unpacked(str(tmp_path / "a"), ".gz", 200), io.BufferedReader)
