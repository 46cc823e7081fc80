"""Somebody's checkpoint, written by transformers: in shards, with a tokenizer that lacks padding, or too many rows."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft import loading
from lmgraft.api import run
from lmgraft.artifacts import checkpoint
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.errors import UserError
from lmgraft.loading import architecture_for
from lmgraft.seams.parallelism import Sampling
from lmgraft.training import weights
from lmgraft_pretrained.architecture import Pretrained
from lmgraft_pretrained.plugin import PretrainedConfig

DATA = os.environ.get("LMGRAFT_TEST_DATA")
TEXTS = "the cat sat on the mat and looked at the other cat that sat there\n"
PIECES = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama in bfloat16 and shards, as others publish them: ten rows more than tokens, and no token for padding."""
    folder = tmp_path_factory.mktemp("model")
    write_llama(folder, rows=PIECES + 10)
    write_tokenizer(folder)
    return folder


def write_llama(folder: Path, *, rows: int) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        num_hidden_layers=2, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, vocab_size=rows,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    with tokenizers.library_threads():
        tokenizer.train_from_iterator(_words(400), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}), encoding="utf-8")
    assert tokenizer.get_vocab_size() == PIECES


def _words(count: int) -> list[str]:
    return [f"{TEXTS} {number} {'abcdefghijklmnop'[number % 16] * 3}{number % 7}" for number in range(count)]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for number in range(6):
        (folder / f"{number}.txt").write_text("\n".join(_words(40)[number:]) * 3, encoding="utf-8")
    return folder


def small(texts: Path, folder: Path, *more: str) -> list[str]:
    return [
        f"run.dir={folder / 'run'}", f"store.dir={folder / 'store'}", "device=cpu", "precision=float32",
        f"data.path={texts}", "corpus.filters.length.min_chars=10", "corpus.validation_bytes=2000", "corpus.workers=1",
        "pretrain.steps=3", "pretrain.batch=2", "pretrain.seq_len=32", "evaluate.limit=2",
        "tokenizer@tokenizer.tokenizer=pretrained", *more,
    ]  # fmt: skip


def test_answers_are_those_of_transformers(model: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    prompt = list(range(5, 25))
    handle = loading.load(model, device="cpu", precision="float32")
    (scored,) = handle.score([(prompt[:1], prompt[1:])])
    with torch.no_grad():
        logprobs = theirs(torch.tensor([prompt])).logits[0].log_softmax(-1)
    expected = [float(logprobs[at, token]) for at, token in enumerate(prompt[1:])]
    assert scored.logprobs == pytest.approx(expected, abs=1e-4)
    greedy = list(handle.generate(prompt, Sampling(max_new_tokens=8, temperature=0)))
    out = theirs.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert greedy == out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("rows", [PIECES - 3, PIECES + 1, PIECES + 10, PIECES + 12])
def test_rows_are_the_tokenizers(model: Path, rows: int) -> None:
    part = Pretrained(PretrainedConfig(path=str(model)))
    module = weights.materialise(part, rows, "cpu")
    weights.load_into(module, part, model)
    stored = checkpoint.tensors(model)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        ours, theirs = weights.canonical(module)[name], stored[name].float()
        assert len(ours) == rows
        assert torch.equal(ours[: len(theirs)], theirs[:rows])
        for new in ours[len(theirs) :]:
            assert torch.allclose(new, theirs.mean(0), atol=1e-3)
    name = "model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(weights.canonical(module)[name], stored[name].float())


def test_a_recipe_goes_on_from_it(model: Path, texts: Path, tmp_path: Path) -> None:
    start = ["architecture@pretrain.architecture=pretrained", f"pretrain.architecture.path={model}"]
    given = small(texts, tmp_path, *start, f"tokenizer.tokenizer.path={model}")
    steps = ["pretrain.optimizer.lr=1e-9"]
    made = run("quickstart", [*given, *steps], quiet=True)
    trained = made.artifacts["pretrain"]
    assert architecture_for(trained).spec() == architecture_for(model).spec()
    assert checkpoint.read_config(trained)["vocab_size"] == PIECES + 1  # padding was appended
    ours, theirs = checkpoint.tensors(trained), checkpoint.tensors(model)
    for name in theirs:
        rows = min(len(ours[name]), len(theirs[name]), PIECES)
        assert torch.allclose(ours[name][:rows], theirs[name][:rows].float(), atol=1e-6), name
    # Moved, it is the same work; changed, it is another.
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)
    start[1] = f"pretrain.architecture.path={moved}"
    again = [*small(texts, tmp_path, *start, f"tokenizer.tokenizer.path={moved}"), *steps, f"run.dir={tmp_path / '2'}"]
    assert run("quickstart", again, quiet=True).data["stages"]["pretrain"]["status"] == "reused"
    shard = sorted(moved.glob("*.safetensors"))[0]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(bytes(content))
    changed = run("quickstart", [*again, f"run.dir={tmp_path / '3'}"], quiet=True)
    assert changed.data["stages"]["pretrain"]["status"] == "ran"


def test_a_stage_takes_it_as_it_is(model: Path, texts: Path, tmp_path: Path) -> None:
    stage = ["stage@pretrain=pretrained", f"pretrain.path={model}", "pretrain.tokenizer=tokenizer"]
    given = [one for one in small(texts, tmp_path) if not one.startswith("pretrain.")]
    made = run("quickstart", [*given, *stage, f"tokenizer.tokenizer.path={model}"], quiet=True)
    ours, theirs = checkpoint.tensors(made.artifacts["pretrain"]), checkpoint.tensors(model)
    assert set(ours) == set(theirs)
    for name in theirs:
        assert ours[name].dtype == torch.bfloat16
        assert torch.equal(ours[name][:PIECES], theirs[name][:PIECES]), name
    assert made.score("bits_per_byte") > 0
    ids = checkpoint.read_config(made.artifacts["pretrain"])
    assert (ids["vocab_size"], ids["pad_token_id"]) == (PIECES + 1, PIECES)


def test_ids_without_a_row_end_nothing(model: Path, texts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    told = {"eos_token_id": [0, 5, PIECES + 5, -3, True]}  # the model has a row for the third, its tokenizer no token
    (folder / "generation_config.json").write_text(json.dumps(told), encoding="utf-8")
    stage = ["stage@pretrain=pretrained", f"pretrain.path={folder}", "pretrain.tokenizer=tokenizer"]
    given = [one for one in small(texts, tmp_path) if not one.startswith("pretrain.")]
    made = run("quickstart", [*given, *stage, f"tokenizer.tokenizer.path={folder}"], quiet=True)
    ends = checkpoint.read_generation_config(made.artifacts["pretrain"])["eos_token_id"]
    assert ends == [0, 5]


def test_a_run_directory_is_a_model_and_a_tokenizer(model: Path, texts: Path, tmp_path: Path) -> None:
    """And depth is known before any work where a stage brings a model."""
    stage = ["stage@pretrain=pretrained", f"pretrain.path={model}", "pretrain.tokenizer=tokenizer"]
    given = [one for one in small(texts, tmp_path) if not one.startswith("pretrain.")]
    run("quickstart", [*given, *stage, f"tokenizer.tokenizer.path={model}"], quiet=True)
    place = tmp_path / "run"
    again = ["stage@pretrain=pretrained", f"pretrain.path={place}", "pretrain.tokenizer=tokenizer"]
    here = [f"run.dir={tmp_path / '2'}", f"tokenizer.tokenizer.path={place}"]
    made = run("quickstart", [*given, *again, *here], quiet=True)
    before, after = (checkpoint.tensors(folder / "stages" / "pretrain") for folder in (place, made.dir))
    assert all(torch.equal(before[name], after[name]) for name in before)
    sizes = ["tokenizer@tokenizer.tokenizer=pretrained", "size.context=64", f"run.dir={tmp_path / '3'}"]
    with pytest.raises(UserError, match="dus with drop=2 on the 2 layers of pretrain"):
        run("solar", [*sizes, *again, f"tokenizer.tokenizer.path={place}"], quiet=True)


def test_another_vocabulary_is_refused(model: Path, texts: Path, tmp_path: Path) -> None:
    start = ["architecture@pretrain.architecture=pretrained", f"pretrain.architecture.path={model}"]
    given = [one for one in small(texts, tmp_path, *start) if not one.startswith("tokenizer@")]
    with pytest.raises(UserError) as caught:
        run("quickstart", [*given, "tokenizer.tokenizer.vocab_size=280"], quiet=True)
    assert "have different vocabularies" in str(caught.value)
    assert "pretrained" in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: shutil.rmtree(folder), ("holds no model", "no such folder")),
        (lambda folder: (folder / "config.json").unlink(), ("holds no model",)),
        (lambda folder: _config(folder, model_type="mistrall"), ("mistrall", "did you mean mistral?")),
        (lambda folder: _config(folder, num_hidden_layers=None), ("config.json", "num_hidden_layers")),
    ],
)
def test_a_folder_that_is_none_is_refused_before_any_work(
    model: Path, texts: Path, tmp_path: Path, spoil: Any, words: tuple[str, ...]
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(model, bad)
    spoil(bad)
    start = ["architecture@pretrain.architecture=pretrained", f"pretrain.architecture.path={bad}"]
    with pytest.raises(UserError) as caught:
        run("quickstart", small(texts, tmp_path, *start, f"tokenizer.tokenizer.path={model}"), quiet=True)
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: sorted(folder.glob("*.safetensors"))[1].unlink(), ("model-00002", "is missing")),
        (lambda folder: _pickle(folder), ("pytorch_model.bin is refused", "pickle")),
        (lambda folder: _config(folder, intermediate_size=40), ("mlp", "48")),
        (lambda folder: _config(folder, intermediate_size=2_000_000_000), ("mlp", "48", "2000000000")),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    model: Path, texts: Path, tmp_path: Path, spoil: Any, words: tuple[str, ...]
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(model, bad)
    spoil(bad)
    start = ["architecture@pretrain.architecture=pretrained", f"pretrain.architecture.path={bad}"]
    with pytest.raises(UserError) as caught:
        run("quickstart", small(texts, tmp_path, *start, f"tokenizer.tokenizer.path={model}"), quiet=True)
    for word in words:
        assert word in str(caught.value)


def _config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values), encoding="utf-8")


def _pickle(folder: Path) -> None:
    for file in (*folder.glob("*.safetensors"), *folder.glob("*.index.json")):
        file.unlink()
    torch.save({"model.norm.weight": torch.ones(3)}, folder / "pytorch_model.bin")


@pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set: published tokenizers lie there")
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_published_tokenizers_go_with_their_models(name: str, tmp_path: Path) -> None:
    """GPT-2's folder names no token for padding, and LLaMA's may hold nothing but SentencePiece's own file."""
    from lmgraft.testing.models import write_llama as write

    write(tmp_path / "m", layers=1)
    for file in (tmp_path / "m").glob("tokenizer*"):
        file.unlink()
    source = Path(str(DATA)) / "tokenizer"
    if name == "gpt2":
        (tmp_path / "m" / "tokenizer.json").write_bytes(
            gzip.decompress((source / "gpt2_tokenizer.json.gz").read_bytes())
        )
        (tmp_path / "m" / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}', encoding="utf-8")
    else:
        shutil.copy(source / "llama2_tokenizer.model", tmp_path / "m" / "tokenizer.model")
    tokenizer = loading.load_tokenizer(tmp_path / "m")
    assert tokenizer.decode(tokenizer.encode_batch(["Hello there"])[0]).strip() == "Hello there"
    assert tokenizer.vocab_size == {"gpt2": 50_258, "llama": 32_001}[name]
