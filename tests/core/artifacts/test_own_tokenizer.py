"""Tokenizers that their own part reads: found by name among what is installed, copied whole, no stranger's code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from letters_distribution import LETTERS, PART, letters
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.errors import UserError
from lmgraft.registry import build, registry
from lmgraft.seams.tokenizer import TextTokenizer
from third_party import forget


def made(folder: Path, texts: tuple[str, ...] = ("abc naïve",)) -> Path:
    component = registry().get("tokenizer", LETTERS).component
    part: Any = build(component, component.config())
    part.train(iter(texts))
    folder.mkdir()
    tokenizers.save(part, component, folder)
    return folder


@pytest.fixture
def folder(site: Any, tmp_path: Path) -> Path:
    site.install(letters())
    return made(tmp_path / "made")


def changed(folder: Path, **change: Any) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **change}))


def test_it_is_read_by_its_part(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["lmgraft_tokenizer"] == "letters"
    assert config["lmgraft_tokenizer_files"] == ["letters/vocabulary.json"]
    loaded = tokenizers.load(folder)
    assert isinstance(loaded, TextTokenizer)
    assert loaded.vocab_size == 2 + 256 + len(set("abc naïve"))
    (ids,) = loaded.encode_batch(["naïve 漢"])
    assert loaded.decode(ids) == "naïve 漢"
    assert sum(loaded.token_bytes()[index] for index in ids) == len("naïve 漢".encode())
    assert pickle.loads(pickle.dumps(loaded)).encode_batch(["naïve 漢"]) == [ids]
    assert tokenizers.verify(folder) == []


def test_arrays_come_from_lists_where_it_has_no_arrays_of_its_own(folder: Path, site: Any) -> None:
    arrays = tokenizers.encode_arrays(tokenizers.load(folder), ["ab", "", "ï漢"])
    assert [array.dtype for array in arrays] == [np.int32] * 3
    assert [array.tolist() for array in arrays] == tokenizers.load(folder).encode_batch(["ab", "", "ï漢"])
    own = (
        "    def encode_arrays(self, texts):\n        import numpy\n        return [numpy.array([7]) for _ in texts]\n"
    )
    site.install(letters(PART.replace("    def encode_letter", own + "\n    def encode_letter", 1)))
    (array,) = tokenizers.encode_arrays(tokenizers.load(folder), ["ab"])
    assert array.tolist() == [7]
    assert array.dtype == np.int32


def test_a_copy_is_whole_and_takes_a_chat_template(folder: Path, tmp_path: Path) -> None:
    tokenizers.copy(folder, tmp_path / "copied")
    expected = tokenizers.load(folder)
    tokenizers.set_chat_template(tmp_path / "copied", "{{ bos_token }}")
    copied = tokenizers.load(tmp_path / "copied")
    assert copied.encode_batch(["abc"]) == expected.encode_batch(["abc"])
    assert copied.fingerprint() == expected.fingerprint()
    assert (expected.chat_template, copied.chat_template) == (None, "{{ bos_token }}")
    (tmp_path / "copied/letters/vocabulary.json").unlink()
    assert tokenizers.verify(tmp_path / "copied") == [f"{tmp_path}/copied/letters/vocabulary.json is missing"]
    with pytest.raises(UserError, match=r"letters/vocabulary\.json is missing"):
        tokenizers.copy(tmp_path / "copied", tmp_path / "again")


def test_it_needs_its_part(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "site").rename(tmp_path / "away")
    forget(tmp_path / "site")
    with pytest.raises(UserError, match="needs the tokenizer 'letters', which is not installed") as caught:
        tokenizers.load(folder)
    assert "byte_bpe" in caught.value.problems[0].cause
    assert tokenizers.verify(folder) == []  # the files are whole


def test_a_part_that_reads_no_folders_is_told(folder: Path, site: Any) -> None:
    site.install(letters(PART.replace("def load(self, folder)", "def read(self, folder)")))
    with pytest.raises(UserError, match="cannot be read by the installed tokenizer 'letters'"):
        tokenizers.load(folder)


@pytest.mark.parametrize("name", ["os", "lmgraft_byte_bpe.tokenizer:ByteBPE", "../letters", "byte_bpe", 3, ["letters"]])
def test_a_strangers_folder_names_installed_parts_that_read_or_nothing(folder: Path, name: object) -> None:
    changed(folder, lmgraft_tokenizer=name)
    with pytest.raises(UserError, match=r"not installed|cannot be read by the installed"):
        tokenizers.load(folder)


@pytest.mark.parametrize(
    "names",
    [["../secret"], ["/etc/passwd"], ["a/../../secret"], ["C:\\secret"], [""], ["link/secret"], "letters", [3],
     ["model.safetensors"], ["config.json"], ["train.bin"]],
)  # fmt: skip
def test_a_strangers_folder_names_no_files_elsewhere(folder: Path, tmp_path: Path, names: object) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path)
    changed(folder, lmgraft_tokenizer_files=names)
    with pytest.raises(UserError, match=r"names files elsewhere|for its own"):
        tokenizers.copy(folder, tmp_path / "copied")
    assert not list(tmp_path.glob("copied/**/*"))


def test_damaged_files_are_told_without_a_traceback(folder: Path) -> None:
    (folder / "letters/vocabulary.json").write_text("[")
    with pytest.raises(UserError, match="the tokenizer letters cannot read it"):
        tokenizers.load(folder)


@pytest.mark.parametrize(
    ("right", "wrong", "word"),
    [
        ("def token_bytes(self)", "def bytes_each(self)", "Ready lacks token_bytes"),
        ("end_id, pad_id = 0, 1", "end_id, pad_id = 1, 1", "have one id"),
    ],
)
def test_what_it_loads_is_looked_at(folder: Path, site: Any, right: str, wrong: str, word: str) -> None:
    site.install(letters(PART.replace(right, wrong)))
    with pytest.raises(UserError, match=word):
        tokenizers.load(folder)


def test_names_that_models_need_are_refused(site: Any, tmp_path: Path) -> None:
    site.install(letters(PART.replace("letters/vocabulary.json", "letters/../model.safetensors")))
    with pytest.raises(UserError, match=r"the tokenizer letters saved model\.safetensors"):
        made(tmp_path / "made")


def test_other_code_is_another_artifact(site: Any, tmp_path: Path) -> None:
    found = []
    for number, part in enumerate((PART, PART, PART + "\n# changed\n")):
        site.install(letters(part))
        made(tmp_path / f"{number}")
        found.append((tmp_path / f"{number}" / "tokenizer_config.json").read_bytes())
    assert found[0] == found[1] != found[2]
