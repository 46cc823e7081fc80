"""What a document begins with: the token that somebody's tokenizer puts before a text by itself, or the end token."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.errors import UserError
from lmgraft.seams.tokenizer import first_id
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
TEXT = "the cat sat on the mat"
BOTH = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def template(single: str) -> Any:
    named = [(token, index) for index, token in enumerate(SPECIAL)]
    return processors.TemplateProcessing(single=single, pair="$A $B", special_tokens=named)


def written(folder: Path, processor: Any, **config: Any) -> Path:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [TEXT] * 3,
        trainers.BpeTrainer(vocab_size=280, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    if processor is not None:
        made.post_processor = processor
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**BOTH, **config}), encoding="utf-8")
    return folder


SAYING = {
    "llama": (template("<s> $A"), 1),
    "llama 3": (processors.Sequence([processors.ByteLevel(trim_offsets=False), template("<s> $A")]), 1),
    "with an end": (template("<s> $A </s>"), 1),
    "bert": (processors.BertProcessing(("</s>", 2), ("<pad>", 3)), 3),
    "bloom": (processors.ByteLevel(trim_offsets=False), 2),
    "t5": (template("$A <pad>"), 2),
    "two": (template("<s> <unk> $A"), 2),
    "no text": (template("<s>"), 2),
    "nothing": (None, 2),
}


@pytest.mark.parametrize("name", SAYING)
def test_it_is_what_the_post_processor_says(tmp_path: Path, name: str) -> None:
    processor, wanted = SAYING[name]
    found = tokenizers.load(written(tmp_path / "made", processor))
    assert first_id(found) == wanted
    assert found.end_id == 2
    assert not {0, 1, 2, 3} & set(found.encode_batch([f"<s>{TEXT}</s>"])[0])  # text is text, as ever


@pytest.mark.parametrize(
    ("processor", "told", "wanted"),
    [
        (template("<s> $A"), {"add_bos_token": False}, 2),
        (template("<s> $A"), {"add_bos_token": True}, 1),
        (None, {"add_bos_token": True}, 1),
        (None, {"add_bos_token": True, "bos_token": {"content": "<unk>"}}, 0),
        (template("<s> $A"), {"add_bos_token": True, "bos_token": None}, 1),
        (None, {"add_bos_token": True, "bos_token": "<nowhere>"}, 2),
        (None, {"add_bos_token": None}, 2),
        (None, {"add_bos_token": "yes"}, 2),
    ],
)
def test_the_setting_decides(tmp_path: Path, processor: Any, told: dict[str, Any], wanted: int) -> None:
    assert first_id(tokenizers.load(written(tmp_path / "made", processor, **told))) == wanted


@pytest.mark.parametrize("name", ["llama", "llama 3"])
def test_ids_of_a_text_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    from transformers import AutoTokenizer

    folder = written(tmp_path / "made", SAYING[name][0], tokenizer_class="PreTrainedTokenizerFast")
    ours, theirs = tokenizers.load(folder), AutoTokenizer.from_pretrained(folder)
    for text in (TEXT, "", "caf\u00e9  \n x"):
        assert [first_id(ours), *ours.encode_batch([text])[0]] == theirs(text).input_ids


def test_an_id_that_no_token_has_begins_nothing(tmp_path: Path) -> None:
    folder = written(tmp_path / "made", template("<s> $A"))
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["post_processor"]["special_tokens"]["<s>"]["ids"] = [70_000]
    file.write_text(json.dumps(content), encoding="utf-8")
    assert first_id(tokenizers.load(folder)) == 2


def test_a_tokenizer_that_tells_nothing_begins_with_its_end() -> None:
    plain: Any = SimpleNamespace(end_id=7)
    telling: Any = SimpleNamespace(end_id=7, first_id=3)
    assert (first_id(plain), first_id(telling)) == (7, 3)


DAMAGED = {
    "a token that is listed nowhere": {"SpecialToken": {"id": "<s>", "type_id": 0}},
    "the second of one text": {"Sequence": {"id": "B", "type_id": 0}},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_post_processor_is_a_users_error(tmp_path: Path, name: str) -> None:
    """The library panics at some, which is no Exception of Python's."""
    file = written(tmp_path / "made", None) / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8")) | {
        "post_processor": {"type": "TemplateProcessing", "single": [DAMAGED[name]], "pair": [], "special_tokens": {}}
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="post_processor: "):
        tokenizers.load(file.parent)


def test_a_damaged_table_of_characters_is_a_users_error(tmp_path: Path) -> None:
    file = written(tmp_path / "made", None) / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read"):
        tokenizers.load(file.parent)
