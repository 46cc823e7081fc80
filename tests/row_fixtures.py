"""Fixtures of the objectives that encode rows: a byte-level tokenizer, rows encoded as the train stage encodes them, an
engine that steps them. The conftest of each such plugin imports them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.artifacts import tokenizer
from lmgraft.artifacts.corpus import CorpusWriter, shard_name, to_batch
from lmgraft.artifacts.tokenizer import SavedTokenizer
from lmgraft.loading import architecture_for
from lmgraft.registry import build, registry
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Objective
from lmgraft.seams.parallelism import EnginePlan
from lmgraft.training.examples import Examples
from lmgraft.training.laying import Encoding
from lmgraft.training.laying import encode as lay_out

END = "<|endoftext|>"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tokenizer with one id a byte, an end token and a padding token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("tokenizer")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([END, "<|pad|>"])
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END, "pad_token": "<|pad|>"}))
    return folder


@pytest.fixture(scope="session")
def saved(vocabulary: Path) -> SavedTokenizer:
    return tokenizer.load(vocabulary)


class _Bar:
    def advance(self, amount: float = 1, **shown: Any) -> None: ...

    def total(self, total: float) -> None: ...


@contextmanager
def _silent(title: str, total: int) -> Iterator[_Bar]:
    yield _Bar()


@pytest.fixture
def encoded(saved: SavedTokenizer, tmp_path: Path) -> Callable[..., Examples]:
    """Documents through a corpus on disk and the objective's ``encode``, as the train stage takes them; ``reference``
    makes the reference's folder of the corpus's."""

    def encode(
        objective: Objective,
        documents: Sequence[Document],
        reference: Callable[[Path], Path] | None = None,
    ) -> Examples:
        folder = tmp_path / "corpus"
        folder.mkdir()
        fields = ("messages", "prompt", "chosen", "rejected")
        there = {name for name in fields if any(getattr(document, name) is not None for document in documents)}
        with CorpusWriter(folder / shard_name("train", 0, 1), there) as writer:
            writer.write(to_batch(documents, "rows"))
        how = Encoding(
            corpus=folder,
            split="train",
            objective=objective,
            tokenizer=saved,
            seq_len=256,
            stage="rows",
            reference=reference(folder) if reference is not None else None,
        )
        lay_out(how, tmp_path / "train.arrow", _silent)
        return Examples(tmp_path / "train.arrow", saved.pad_id)

    return encode


@pytest.fixture
def engine() -> Callable[..., Any]:
    """The layout ``single`` with the weights of a model folder."""

    def make(folder: Path, objective: Objective) -> Any:
        config = json.loads((folder / "config.json").read_text())
        plan = EnginePlan(
            architecture=architecture_for(folder),
            vocab_size=config["vocab_size"],
            device="cpu",
            precision="float32",
            seed=0,
            weights=folder,
            objective=objective,
        )
        component = registry().get("parallelism", "single").component
        made: list[Any] = []
        build(component, component.config(part="single")).launch(lambda new: made.append(new(plan)))
        return made[0]

    return make


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory, saved: SavedTokenizer) -> Path:
    """The folder of a small Llama that transformers made and saved; weights large enough to have opinions."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("llama")
    config = transformers.LlamaConfig(
        vocab_size=saved.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        initializer_range=0.2,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder
