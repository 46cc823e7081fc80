"""SentencePiece's table of characters, read and written."""

from __future__ import annotations

import struct

import pytest

pytest.importorskip("gguf")

from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft_gguf.charsmap import as_read_here, packed, stretches


def table(found: dict[str, int], texts: bytes = b"x\0yy\0") -> bytes:
    units = packed(found)
    return struct.pack(f"<{len(units) + 1}I", 4 * len(units), *units) + texts


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=4),
        st.integers(0, 2**31 - 1),
        min_size=1,
    )
)
def test_what_is_packed_is_read_again(found):
    assert stretches(packed(found)) == found


def test_only_what_is_looked_up_stays():
    kept = {"\u212b": 0, "e\u0301": 2, "\uff41": 0, "\u0344": 2}
    gone = {"\uff41\u0301": 0, "\u304b\u3099": 2, "\u1100\u1161": 0, "e\u0301\u0323": 2, "\r\n": 0, "\u0308\u0301": 2}
    made = as_read_here(table(kept | gone))
    size = struct.unpack("<I", made[:4])[0]
    assert stretches(struct.unpack(f"<{size // 4}I", made[4 : 4 + size])) == kept
    assert made[4 + size :] == b"x\0yy\0"
    assert as_read_here(table({"\u304b\u3099": 2, "\u1100\u1161": 0})) == b""


@pytest.mark.parametrize(
    "damaged", [b"", b"\0" * 8, b"\xff" * 40, struct.pack("<3I", 8, 0, 0), b"\x06\0\0\0" + b"a" * 9]
)
def test_what_is_no_table(damaged):
    with pytest.raises(ValueError, match="table of characters"):
        as_read_here(damaged)


def test_a_table_without_an_end():
    """A unit whose children are itself."""
    units = [ord("a") << 10 ^ ord("a") << 10, *[0] * 255]
    units[ord("a")] = ord("a") | ord("a") << 10
    with pytest.raises(ValueError, match="leads back"):
        stretches(units)


def test_a_table_that_leads_out_of_itself():
    units = [0] * 256
    units[ord("a")] = ord("a") | 1 << 8 | 1 << 10 << 8
    with pytest.raises(ValueError, match="out of itself"):
        stretches(units)
    with pytest.raises(ValueError, match="behind its texts"):
        as_read_here(table({"a": 5}))
    assert as_read_here(table({"a": 4}))
