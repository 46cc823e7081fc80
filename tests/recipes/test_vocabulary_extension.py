"""The recipe ``vocabulary_extension`` in the small: an English model is given a language in another script.

The language is Chinese where real data are named (``LMGRAFT_TEST_DATA``), and otherwise one that is made here: words of
Python's documentation, each written with characters of its own. The figures of the whole recipe are the README's
business; here it has to show, in a minute, that the extension is worth its tokens.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from lmgraft import compose, recipe
from lmgraft.artifacts import checkpoint, tokens
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.errors import UserError
from tiny_recipe import run_json, statuses

pytestmark = pytest.mark.slow

STAGES = [
    "corpus", "new_corpus", "tokenizer", "extended", "tokens", "old_text", "new_text", "control_text", "pretrain",
    "widened", "embeddings", "continued", "control", "evaluate",
]  # fmt: skip
MODELS = ["pretrain", "widened", "embeddings", "continued", "control"]

SMALL = [
    "corpus.max_bytes=600_000", "corpus.validation_bytes=20_000", "new_corpus.max_bytes=600_000",
    "new_corpus.validation_bytes=10_000", "corpus.workers=1", "new_corpus.workers=1", "size.vocab_size=600",
    "size.new_tokens=500", "size.layers=2", "size.hidden=64", "size.heads=2", "size.mlp=128", "size.context=128",
    "steps.pretrain=300", "steps.embeddings=20", "steps.continued=100", "steps.control=120",
]  # fmt: skip


def lmgraft(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LMGRAFT_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "lmgraft", *args]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def another_language(path: Path) -> None:
    """English words in a script of ideographs: frequent words are one character, others two; as many documents."""
    from pydoc_data.topics import topics

    texts = [re.findall(r"[A-Za-z]+|[.,:()]|\n\n", text) for _, text in sorted(topics.items())]
    counted = Counter(word.lower() for text in texts for word in text if word.isalpha())
    signs = [chr(0x4E00 + 7 * number) for number in range(1500)]
    random.Random(0).shuffle(signs)
    words = {word: signs[rank] for rank, (word, _) in enumerate(counted.most_common(600))}
    words |= {
        word: signs[600 + rank % 900] + signs[600 + rank * 31 % 900]
        for rank, (word, _) in enumerate(counted.most_common()[600:])
    }
    rest = {".": "。", ",": "，", ":": "：", "(": "（", ")": "）", "\n\n": "\n"}
    written = ["".join(words.get(word.lower(), rest.get(word, "")) for word in text) for text in texts]
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in written))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary_extension")
    real = Path(os.environ.get("LMGRAFT_TEST_DATA") or folder) / "multilingual" / "zh_song_ci.jsonl.gz"
    if not real.is_file():
        real = folder / "new.jsonl"
        another_language(real)
    done = lmgraft(folder, "run", "vocabulary_extension", "run.dir=run", f"new.path={real}", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def scores(run: Path, evaluator: str) -> dict[str, float]:
    """Model -> bits per byte."""
    rows = [row for row in run_json(run)["scores"] if row["evaluator"] == evaluator and row["name"] == "bits_per_byte"]
    assert [row["stage"] for row in rows] == MODELS
    return {row["stage"]: row["value"] for row in rows}


def test_every_stage_runs_once_in_order(ran: Path) -> None:
    assert list(statuses(ran).items()) == [(name, "ran") for name in STAGES]


def test_the_new_language_gains_and_english_does_not_lose(ran: Path) -> None:
    new, base = scores(ran, "new"), scores(ran, "base")
    assert new["continued"] < new["control"] < new["pretrain"]
    assert new["embeddings"] < new["widened"]
    assert base["continued"] < 1.02 * base["control"]


def test_two_languages_are_measured_apart(ran: Path) -> None:
    rows = {row["evaluator"]: row for row in run_json(ran)["scores"] if row["name"] == "bits_per_byte"}
    assert rows["new"]["detail"]["sources"] == ["new"]
    assert rows["base"]["detail"]["sources"] == ["files", "python_docs"]
    assert rows["new"]["detail"]["bytes"] != rows["base"]["detail"]["bytes"]
    by_model = [row for row in run_json(ran)["scores"] if row["evaluator"] == "new" and row["name"] == "bits_per_byte"]
    assert len({row["detail"]["bytes"] for row in by_model}) == 1  # the same text, whatever the tokenizer
    assert len({row["detail"]["tokens"] for row in by_model}) == 2


def test_old_ids_and_old_rows_stay(ran: Path) -> None:
    stages = ran / "stages"
    old, new = (tokenizers.load(stages / name) for name in ("tokenizer", "extended"))
    assert new.vocab_size > old.vocab_size == 600
    before, after, trained = (checkpoint.tensors(stages / name) for name in ("pretrain", "widened", "embeddings"))
    for name, tensor in before.items():
        kept = slice(0, tensor.shape[0])
        assert after[name][kept].equal(tensor), name
        assert trained[name][kept].equal(tensor), name  # layers are not trained, nor rows of old tokens
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert after[name].shape[0] == new.vocab_size
        assert not trained[name].equal(after[name])
    for name in ("widened", "embeddings", "continued"):
        config = checkpoint.read_config(stages / name)
        assert (config["vocab_size"], config["eos_token_id"]) == (new.vocab_size, new.end_id)
        assert tokenizers.load(stages / name).fingerprint() == new.fingerprint()


def test_the_same_text_takes_fewer_tokens(ran: Path) -> None:
    names = ("tokens", "old_text", "new_text", "control_text")
    held = {name: tokens.info(ran / "stages" / name).splits["train"].tokens for name in names}
    assert held["new_text"] < 0.7 * held["control_text"]
    assert held["old_text"] == pytest.approx(held["tokens"], rel=0.002)


def composed(*overrides: str) -> Any:
    found = compose.resolve("vocabulary_extension")
    return recipe.read(compose.compose(found, list(overrides)), found.name)


def test_without_a_language_it_names_what_to_set() -> None:
    with pytest.raises(UserError) as caught:
        composed()
    said = [line.strip() for line in str(caught.value).splitlines()]
    assert said == [
        "new_corpus.sources.new.path=${new.path} has no value", "because: new.path is not set", "try: new.path=VALUE",
    ]  # fmt: skip


def test_both_ways_take_as_many_tokens(tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("新")
    found = composed(f"new.path={tmp_path / 'new.txt'}")
    train = {name: found.stage(name).config for name in ("embeddings", "continued", "control")}
    spent = {name: stage.steps * stage.batch * stage.seq_len for name, stage in train.items()}
    assert spent["embeddings"] + spent["continued"] == spent["control"]
    shares = {name: list(stage.data_weights.values()) for name, stage in train.items()}
    assert shares["embeddings"] == shares["continued"] == shares["control"]
    assert train["control"].model == "pretrain"
    assert train["embeddings"].trainable == ["embedding", "head"]
    assert train["continued"].trainable == train["control"].trainable == []
