"""Reading SentencePiece model files: those of the library's own trainer, and broken ones."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.errors import UserError
from lmgraft_vocabularies.conformance import sentence_piece_file
from lmgraft_vocabularies.sentence_model import Kind, Piece, PieceType, model_bytes, piece_bytes, read_model
from lmgraft_vocabularies.wire import WireError, bytes_field, fields, varint_field


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_piece_file(tmp_path_factory.mktemp("model") / "made.model")


def problem(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_model(path)
    (found,) = caught.value.problems
    assert len(str(found).splitlines()) == 3
    assert str(path) in found.fact
    return str(found)


def test_reads_what_protobuf_reads(tmp_path: Path) -> None:
    proto = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    made = io.BytesIO()
    texts = [f"some words and {number} numbers" for number in range(200)]
    trainer.train(sentence_iterator=iter(texts), model_writer=made, vocab_size=60, model_type="bpe", minloglevel=3)
    path = tmp_path / "trained.model"
    path.write_bytes(made.getvalue())
    theirs, ours = proto.ModelProto(), read_model(path)
    theirs.ParseFromString(made.getvalue())
    assert [(piece.piece, piece.score, piece.type) for piece in theirs.pieces] == [
        (piece.text, piece.score, piece.type) for piece in ours.pieces
    ]
    assert ours.charsmap == theirs.normalizer_spec.precompiled_charsmap
    assert (ours.kind, ours.dummy_prefix, ours.remove_extra_spaces) == (Kind.bpe, True, True)
    theirs.pieces.add(piece="new", score=-3.5, type=PieceType.control)
    again = proto.ModelProto()
    again.ParseFromString(made.getvalue() + piece_bytes(Piece("new", -3.5, PieceType.control)))
    assert again == theirs


def test_cut_anywhere_it_is_refused(model: Path, tmp_path: Path) -> None:
    data = model.read_bytes()
    cut = tmp_path / "cut.model"
    for end in [*range(0, 60), *range(60, len(data) - 1, 97), len(data) - 1]:
        cut.write_bytes(data[:end])
        problem(cut)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.model"
    path.write_bytes(data)
    problem(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"AA== 0\nAQ== 1\n", "tiktoken"),
        (b"<!DOCTYPE html><html>", "it is text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"", "no piece"),
        (model_bytes([Piece("a")], Kind.bpe, byte_fallback=False, remove_extra_spaces=False), "unknown"),
        (
            model_bytes([Piece("a"), Piece("a")], Kind.bpe, byte_fallback=False, remove_extra_spaces=False),
            "twice",
        ),
        (
            model_bytes(
                [Piece("<unk>", 0, PieceType.unknown)], Kind.bpe, byte_fallback=True, remove_extra_spaces=False
            ),
            "256",
        ),
        (bytes_field(1, bytes_field(1, b"a" * 5000)), "5,000 characters"),
        (bytes_field(1, bytes_field(1, b"a") + b"\x15\x00\x00\xc0\x7f"), "score nan"),
        (bytes_field(1, bytes_field(1, b"\xff")), "utf-8"),
        (bytes_field(1, bytes_field(1, b"a") + varint_field(3, 99)), "unknown type 99"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "bytes begins"),
    ],
)
def test_what_is_no_model(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "some.model"
    path.write_bytes(content)
    assert told in problem(path)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "No such file" in problem(tmp_path / "none.model")


def test_numbers_without_end_are_refused() -> None:
    with pytest.raises(WireError):
        list(fields(b"\x08" + b"\x80" * 20))
