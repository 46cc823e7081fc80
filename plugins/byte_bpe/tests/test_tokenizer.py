"""byte_bpe trained on text made here: saved, loaded, round-tripped, and compared with transformers."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.artifacts import tokenizer as saved_tokenizers
from lmgraft.errors import Fault
from lmgraft_byte_bpe.plugin import ByteBPEConfig, lmgraft_tokenizer
from lmgraft_byte_bpe.tokenizer import ByteBPE

TRAIN = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from lmgraft_byte_bpe.plugin import ByteBPEConfig
from lmgraft_byte_bpe.tokenizer import ByteBPE
part = ByteBPE(ByteBPEConfig(vocab_size=600))
part.train(Path({texts!r}).read_text(encoding="utf-8").split("\\0"))
part.save(Path({out!r}))
"""


def texts(count: int = 200) -> list[str]:
    """Text with many pairs of equal count, so that ties are broken often."""
    draw = random.Random(1)
    return ["".join(draw.choice("abcdefgh \n0é漢") for _ in range(300)) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("byte_bpe")
    part = ByteBPE(ByteBPEConfig(vocab_size=600))
    part.train(texts())
    part.save(out)
    return out


def test_same_bytes_in_other_processes_and_thread_counts(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts"
    file.write_text("\0".join(texts()), encoding="utf-8", newline="")
    for number, environment in enumerate(
        ({"RAYON_NUM_THREADS": "1"}, {"RAYON_NUM_THREADS": "3"}, {"TOKENIZERS_PARALLELISM": "false"})
    ):
        out = tmp_path / str(number)
        code = TRAIN.format(path=sys.path, texts=str(file), out=str(out))
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **environment})
        for name in ("tokenizer.json", "tokenizer_config.json"):
            assert (out / name).read_bytes() == (folder / name).read_bytes()


def test_transformers_gives_the_same_ids(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = saved_tokenizers.load(folder)
    for text in [*texts(5), "It's  a\n\n test 12345 \u2028 x", " lead", "漢字", ""]:
        ids = ours.encode_batch([text])[0]
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == text
    assert (theirs.eos_token_id, theirs.bos_token_id, theirs.pad_token_id) == (ours.end_id, ours.end_id, ours.pad_id)
    assert len(theirs) == ours.vocab_size


def test_transformers_reads_it_beside_a_llama_config(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    saved_tokenizers.copy(folder, tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 600})
    )
    text = "  two spaces, it's 12 abc\n\n\tend "
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(text)["input_ids"] == saved_tokenizers.load(folder).encode_batch([text])[0]


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_every_string_round_trips(folder: Path, text: str) -> None:
    tokenizer = saved_tokenizers.load(folder)
    ids = tokenizer.encode_batch([text])[0]
    assert tokenizer.decode(ids) == text
    assert sum(tokenizer.token_bytes()[index] for index in ids) == len(text.encode())
    assert tokenizer.end_id not in ids
    assert tokenizer.pad_id not in ids


def test_special_ids_and_vocabulary(folder: Path) -> None:
    tokenizer = saved_tokenizers.load(folder)
    assert (tokenizer.end_id, tokenizer.pad_id, tokenizer.vocab_size) == (0, 1, 600)
    assert tokenizer.decode([0, *tokenizer.encode_batch(["abc"])[0]], skip_special=True) == "abc"


def test_small_corpus_gives_a_smaller_vocabulary(tmp_path: Path) -> None:
    part = ByteBPE(ByteBPEConfig())
    part.train(["abab abab"])
    part.save(tmp_path)
    assert 258 < saved_tokenizers.load(tmp_path).vocab_size < 270


def test_an_error_of_the_corpus_comes_through() -> None:
    class StopError(Exception):
        pass

    def stopping():
        yield "some text"
        raise StopError

    with pytest.raises(StopError):
        ByteBPE(ByteBPEConfig()).train(stopping())


def test_saving_before_training_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault):
        ByteBPE(ByteBPEConfig()).save(tmp_path)


@pytest.mark.parametrize(
    ("settings_", "key"),
    [
        ({"vocab_size": 257}, "vocab_size"),
        ({"min_frequency": 0}, "min_frequency"),
        ({"end_token": "the"}, "end_token"),
        ({"pad_token": "<||>"}, "pad_token"),
        ({"pad_token": "<|endoftext|>"}, "pad_token"),
    ],
)
def test_check_names_the_setting(settings_: dict, key: str) -> None:
    problems = list(ByteBPEConfig(**settings_).check())
    assert len(problems) == 1
    assert key in problems[0]
    assert list(ByteBPEConfig(vocab_size=258).check()) == []


def test_component() -> None:
    (component,) = lmgraft_tokenizer()
    assert component.name == "byte_bpe"
    assert len(component.summary) <= 72
