"""Saved tokenizers of several kinds, made here with the ``tokenizers`` library."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.errors import UserError
from lmgraft.seams.tokenizer import TextTokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

END, PAD = "<|endoftext|>", "<|pad|>"
TEXT = "the cat sat on the mat, the cat's hat; it's 12 12 12  spaces\n\n\n and  lines\r\n über 漢字 漢字 " * 3


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": END, "pad_token": PAD, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(byte_level(), tmp_path_factory.mktemp("tokenizer"))


def test_it_is_a_text_tokenizer(folder: Path) -> None:
    tokenizer = tokenizers.load(folder)
    assert isinstance(tokenizer, TextTokenizer)
    assert (tokenizer.end_id, tokenizer.pad_id) == (0, 1)
    assert tokenizer.vocab_size == byte_level().get_vocab_size()
    assert [array.tolist() for array in tokenizer.encode_arrays([TEXT, ""])] == tokenizer.encode_batch([TEXT, ""])


def test_a_special_token_that_is_written_out_is_text(folder: Path) -> None:
    text = f"a{END}b {PAD} {END}"
    tokenizer = tokenizers.load(folder)
    ids = tokenizer.encode_batch([text])[0]
    assert not {0, 1} & set(ids)
    assert tokenizer.decode(ids) == text
    # The library by itself does otherwise.
    assert 0 in Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab1 \n\t\r'.,\x1c\x85\xa0\u2028\u3000漢é"), st.integers(1, 6))
def test_pieces_change_no_id(folder: Path, text: str, size: int) -> None:
    parts = list(tokenizers.pieces(text, size))
    assert "".join(parts) == text
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert [index for part in parts for index in library.encode(part).ids] == library.encode(text).ids


def test_a_long_document_gets_the_ids_of_the_whole(folder: Path) -> None:
    text = TEXT * 1000
    assert len(list(tokenizers.pieces(text))) > 2
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizers.load(folder).encode_batch(["x", text, ""])[1] == library.encode(text).ids


def test_only_gpt2_s_pattern_is_cut(tmp_path: Path) -> None:
    other = byte_level()
    # Punctuation takes the line feeds after it along, as Llama 3's pattern does: a cut before them would show.
    other.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(",\n+|.", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[END, PAD])
    other.train_from_iterator([",\n" * 200], trainer)
    text = "," * tokenizers.PIECE + "\n,"
    folder = write(other, tmp_path)
    assert tokenizers.load(folder).encode_batch([text])[0] == other.encode(text).ids


def test_fingerprint_follows_meaning_and_not_layout(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    before = tokenizers.load(folder).fingerprint()

    def changed(name: str, **change: object) -> str:
        other = tmp_path / name
        tokenizers.copy(folder, other)
        (other / "tokenizer.json").write_text(json.dumps({**content, **change}, indent=1, sort_keys=True))
        return tokenizers.load(other).fingerprint()

    assert changed("layout") == before
    merges = [" ".join(pair) for pair in content["model"]["merges"]]
    assert changed("old_merges", model={**content["model"], "merges": merges}) == before
    assert changed("truncated", truncation={"direction": "Right", "max_length": 4, "strategy": "LongestFirst",
                                            "stride": 0}) == before  # fmt: skip
    assert changed("fewer", model={**content["model"], "merges": merges[:-1]}) != before
    assert changed("normalized", normalizer={"type": "Lowercase"}) != before


def test_truncation_and_padding_of_the_file_are_ignored(tmp_path: Path) -> None:
    tokenizer = byte_level()
    expected = tokenizer.encode(TEXT).ids
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    assert tokenizers.load(write(tokenizer, tmp_path)).encode_batch([TEXT, "a"])[0] == expected


def test_token_bytes_of_added_tokens(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("漢字", special=False)])
    loaded = tokenizers.load(write(tokenizer, tmp_path))
    sizes = loaded.token_bytes()
    assert (sizes[0], sizes[1], sizes[loaded.vocab_size - 1]) == (0, 0, 6)
    assert sum(sizes[index] for index in loaded.encode_batch([TEXT])[0]) == len(TEXT.encode())


def test_token_bytes_of_sentence_pieces(tmp_path: Path) -> None:
    vocab = {END: 0, PAD: 1, "<0xE2>": 2, "▁the": 3, "漢": 4}
    tokenizer = Tokenizer(models.BPE(vocab, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([END, PAD])
    assert tokenizers.load(write(tokenizer, tmp_path)).token_bytes() == [0, 0, 1, 4, 3]


def test_token_bytes_are_refused_where_unknown(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({END: 0, PAD: 1, "a": 2}, unk_token=END))
    tokenizer.add_special_tokens([END, PAD])
    with pytest.raises(UserError, match="neither byte-level"):
        tokenizers.load(write(tokenizer, tmp_path)).token_bytes()


def test_special_tokens_may_be_objects(tmp_path: Path) -> None:
    tokenizer = tokenizers.load(write(byte_level(), tmp_path, eos_token={"content": END, "lstrip": False}))
    assert tokenizer.end_id == 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pad_token": None}, "names no pad_token"),
        ({"eos_token": None}, "names no eos_token"),
        ({"eos_token": "<|nowhere|>"}, "eos_token is '<|nowhere|>'"),
        ({"pad_token": END}, "are both"),
    ],
)
def test_wrong_special_tokens_are_user_errors(tmp_path: Path, config: dict, message: str) -> None:
    folder = write(byte_level(), tmp_path, **config)
    with pytest.raises(UserError) as error:
        tokenizers.load(folder)
    assert message in str(error.value)
    assert message in tokenizers.verify(folder)[0]


def test_missing_and_broken_files_are_user_errors(folder: Path, tmp_path: Path) -> None:
    assert tokenizers.verify(folder) == []
    with pytest.raises(UserError, match="is missing"):
        tokenizers.load(tmp_path)
    tokenizers.copy(folder, tmp_path)
    for text in ("{", "[]", '{"model": {}}'):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(UserError, match=r"tokenizer\.json"):
            tokenizers.load(tmp_path)


def test_library_threads_leaves_forks_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    with tokenizers.library_threads():
        assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "1")
    with tokenizers.library_threads():
        assert os.environ["TOKENIZERS_PARALLELISM"] == "1"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "1"
