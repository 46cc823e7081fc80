"""``pretrained``: vocabularies of others, as they are saved and loaded here."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from lmgraft.artifacts import tokenizer as saved
from lmgraft.errors import Fault, UserError
from lmgraft_vocabularies.conformance import byte_level_file, sentence_piece_file
from lmgraft_vocabularies.plugin import PretrainedConfig, lmgraft_tokenizer
from lmgraft_vocabularies.pretrained import Pretrained
from lmgraft_vocabularies.sentence_model import Kind, Piece, PieceType, model_bytes, read_model


def load(out: Path, path: Path, **settings: Any) -> Any:
    part = Pretrained(PretrainedConfig(path=str(path), **settings))
    part.train(["not looked at"])
    part.save(out)
    return saved.load(out)


def refused(path: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(path.parent / "refused", path, **settings)
    (problem,) = caught.value.problems
    assert len(str(problem).splitlines()) == 3
    return str(problem)


@pytest.fixture
def sentence(tmp_path: Path) -> Path:
    return sentence_piece_file(tmp_path / "made.model")


@pytest.fixture
def byte_level(tmp_path: Path) -> Path:
    return byte_level_file(tmp_path)


def edited(path: Path, change: Any) -> Path:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_sentencepiece_ids_and_a_padding_token_behind_them(sentence: Path, tmp_path: Path) -> None:
    model = read_model(sentence)
    found = load(tmp_path / "out", sentence)
    count = len(model.pieces)
    assert (found.end_id, found.pad_id, found.vocab_size) == (2, count, count + 1)
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert [config[key] for key in ("bos_token", "eos_token", "pad_token")] == ["<s>", "</s>", "<pad>"]
    again = read_model(tmp_path / "out" / "tokenizer.model")
    assert again.pieces == [*model.pieces, Piece("<pad>", 0.0, PieceType.control)]
    spm = pytest.importorskip("sentencepiece")
    theirs = spm.SentencePieceProcessor(model_file=str(sentence))
    shown = ["the cat that sat", "  two  spaces ", "</s><pad>", "é漢\n<0x41>", ""]
    assert found.encode_batch(shown) == theirs.encode(shown)
    assert [found.decode(ids) for ids in found.encode_batch(shown)] == shown


def test_a_saved_folder_is_read_again(sentence: Path, tmp_path: Path) -> None:
    load(tmp_path / "one", sentence, chat_template="chatml")
    again = load(tmp_path / "two", tmp_path / "one")
    assert "im_start" in (again.chat_template or "")
    for name in ("tokenizer.json", "tokenizer.model"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    part = Pretrained(PretrainedConfig(path=str(tmp_path / "one")))
    assert sorted(part.inputs()) == ["config", "json", "model"]


def test_tokenizer_json_ids_are_the_librarys(byte_level: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(byte_level))
    packed = tmp_path / "packed.json.gz"
    packed.write_bytes(gzip.compress(byte_level.read_bytes()))
    shown = ["it's some text", "漢字 é\n\n ", "1234"]
    for path in (byte_level, packed):
        found = load(tmp_path / "out", path)
        assert found.encode_batch(shown) == [theirs.encode(text, add_special_tokens=False).ids for text in shown]
        assert (found.end_id, found.pad_id) == (0, theirs.get_vocab_size())


def test_transformers_reads_what_is_saved(sentence: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    found = load(tmp_path / "out", sentence)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in ["the cat", "  that é", "x\ny"]:
        assert theirs(text, add_special_tokens=False)["input_ids"] == found.encode_batch([text])[0]
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.bos_token_id) == (found.end_id, found.pad_id, 1)


@pytest.mark.parametrize(
    ("told", "begins"),
    [
        ({"tokenizer_class": "LlamaTokenizer"}, True),
        ({"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": False}, False),
        ({"tokenizer_class": "T5Tokenizer"}, False),
        ({"add_bos_token": True}, True),
        ({}, False),
    ],
)
def test_a_sentencepiece_model_begins_texts_as_its_folder_says(
    sentence: Path, tmp_path: Path, told: dict[str, Any], begins: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "folder"
    folder.mkdir()
    sentence.rename(folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>", **told}))
    found = load(tmp_path / "out", folder)
    assert (found.first_id, found.begin_id, found.end_id) == (1 if begins else 2, 1, 2)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs("the cat").input_ids == [1] * begins + found.encode_batch(["the cat"])[0]
    again = load(tmp_path / "again", tmp_path / "out")
    assert (again.first_id, again.fingerprint()) == (found.first_id, found.fingerprint())


def test_a_post_processor_names_the_begin_token_where_nothing_else_does(byte_level: Path, tmp_path: Path) -> None:
    def begun(content: dict[str, Any]) -> None:
        index = max(content["model"]["vocab"].values()) + 1
        content["model"]["vocab"]["<s>"] = index
        content["added_tokens"].append({**content["added_tokens"][0], "id": index, "content": "<s>"})
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [index], "tokens": ["<s>"]}},
        }

    found = load(tmp_path / "out", edited(byte_level, begun))
    assert found.first_id == found.begin_id == found.special_ids()["<s>"] != found.end_id


def test_a_model_folder_is_opened_with_all_its_files(byte_level: Path, tmp_path: Path) -> None:
    """What names its special tokens, and its chat template, lie beside tokenizer.json."""
    from lmgraft import openers

    folder = tmp_path / "folder"
    folder.mkdir()
    byte_level.rename(folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ eos_token }}"}))
    openers.write(folder, tmp_path / "out")
    assert saved.load(tmp_path / "out").chat_template == "{{ eos_token }}"


def test_tokens_that_are_named(sentence: Path, tmp_path: Path) -> None:
    found = load(tmp_path / "out", sentence, end_token="<s>", pad_token="</s>")
    assert (found.end_id, found.pad_id) == (1, 2)
    found = load(tmp_path / "out", sentence, pad_token="<fill>")
    assert found.pad_id == found.vocab_size - 1
    assert "no special token" in refused(sentence, end_token="<nowhere>")
    assert "text would be encoded as it" in refused(sentence, end_token="\u2581the")
    assert "never learn to end" in refused(sentence, pad_token="</s>")
    assert "ordinary piece" in refused(sentence, pad_token="\u2581the")


def test_a_padding_token_that_ends_documents_is_replaced(byte_level: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    byte_level.rename(folder / "tokenizer.json")
    config = {"eos_token": {"content": "<|endoftext|>"}, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    found = load(tmp_path / "out", folder)
    assert found.pad_id == found.vocab_size - 1 != found.end_id


def test_a_file_without_an_end_token(byte_level: Path) -> None:
    def unnamed(content: dict[str, Any]) -> None:
        content["added_tokens"][0]["content"] = "<|other|>"
        content["model"]["vocab"] = {"<|other|>": 0, **content["model"]["vocab"]}
        del content["model"]["vocab"]["<|endoftext|>"]

    assert "end_token=TOKEN; special are: <|other|>" in refused(edited(byte_level, unnamed))


def test_another_pattern_is_refused_unless_it_is_meant(byte_level: Path, tmp_path: Path) -> None:
    path = edited(byte_level, lambda content: content["pre_tokenizer"].update(add_prefix_space=True))
    assert "any_pattern=true" in refused(path)
    assert load(tmp_path / "out", path, any_pattern=True).vocab_size > 256


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("tokenizer.json", b"<!DOCTYPE html>", "web page"),
        ("tokenizer.json", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("tokenizer.json", b"[1]", "no JSON object"),
        ("tokenizer.json", b'{"a": 1}', "no key 'model'"),
        ("tokenizer.json", b"[" * 100_000, "is not JSON"),
        ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}', "cannot read it"),
        (
            "tokenizer.json",
            b'{"model": {"type": "WordLevel", "vocab": {"a": 4294967295}, "unk_token": "a"}}',
            "has the id",
        ),
        ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}', "no token"),
        ("tokenizer.json.gz", b"no gzip", "cannot be read"),
        ("tokenizer.json.gz", gzip.compress(b"{" * 999, mtime=0)[:20], "cannot be read"),
        ("some.model", b"AA== 0\n", "tiktoken"),
    ],
)
def test_what_is_no_vocabulary(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert told in refused(path)


def test_nothing_there(tmp_path: Path) -> None:
    assert "is missing" in refused(tmp_path / "none.json")
    (tmp_path / "empty").mkdir()
    assert "holds no vocabulary" in refused(tmp_path / "empty")


def test_models_of_other_types(tmp_path: Path) -> None:
    path = tmp_path / "words.model"
    unknown = [Piece("<unk>", 0, PieceType.unknown), Piece("</s>", 0, PieceType.control)]
    path.write_bytes(model_bytes(unknown, Kind.word, byte_fallback=False, remove_extra_spaces=True))
    assert "type word" in refused(path)


def test_settings() -> None:
    assert any("path is null" in str(problem) for problem in PretrainedConfig().check())
    same = PretrainedConfig(path="x", end_token="<a>", pad_token="<a>")
    assert any("never learn to end" in str(problem) for problem in same.check())
    assert not list(PretrainedConfig(path=__file__).check())
    said = " ".join(map(str, PretrainedConfig(path="no/x.model").check()))
    assert "pretrained.path: no/x.model does not exist" in said
    assert [part.name for part in lmgraft_tokenizer()] == ["pretrained", "extended"]
    with pytest.raises(Fault):
        Pretrained(PretrainedConfig(path="x")).save(Path("nowhere"))
