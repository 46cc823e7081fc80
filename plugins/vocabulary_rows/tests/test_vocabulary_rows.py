"""Rows of another vocabulary, beside what transformers makes when it resizes embeddings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from lmgraft.artifacts import checkpoint, streaming
from lmgraft.artifacts import tokenizer as saved
from lmgraft.errors import UserError
from lmgraft_vocabulary_rows.merge import VocabularyRows
from lmgraft_vocabulary_rows.plugin import Rows, VocabularyRowsConfig
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END, PAD = "<|endoftext|>", "<|pad|>"
#: Merges of the base, then those that the extended one appends.
BASE = [("t", "h"), ("th", "e")]
MORE = [("Ġ", "the"), ("ä", "½"), ("ä½", "ł"), ("the", "re")]


def vocabulary(folder: Path, merges: list[tuple[str, str]], *, moved: bool = False, template: str = "") -> Path:
    """A byte-level tokenizer whose ids are: two special tokens, 256 bytes, merges; backwards with ``moved``."""
    pieces = [END, PAD, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    pieces = pieces[::-1] if moved else pieces
    made = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in (END, PAD)])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / saved.FILE))
    named = {"eos_token": END, "pad_token": PAD} | ({"chat_template": template} if template else {})
    (folder / saved.CONFIG).write_text(json.dumps(named))
    return folder


#: `re` is no piece of the base, so ("the", "re") needs one more merge.
EXTENDED = [*BASE, ("r", "e"), *MORE]


def llama(folder: Path, *, tied: bool = False, dtype: torch.dtype = torch.float32, hidden: int = 16) -> Path:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=260, hidden_size=hidden, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=tied, max_position_embeddings=32, initializer_range=0.5,
        bos_token_id=0, eos_token_id=[0, 5], pad_token_id=None,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).to(dtype).save_pretrained(folder, max_shard_size="20KB")
    vocabulary(folder, BASE)
    return folder


def merge(model: Path, tokenizer: Path, out: Path, **settings: Any) -> dict[str, torch.Tensor]:
    VocabularyRows(VocabularyRowsConfig(**settings)).merge_vocabulary([model], tokenizer, out)
    checkpoint.verify(out)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    return dict(checkpoint.tensors(out))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_old_rows_are_kept_bit_for_bit(tmp_path: Path, tied: bool, dtype: torch.dtype) -> None:
    model = llama(tmp_path / "in", tied=tied, dtype=dtype)
    new = vocabulary(tmp_path / "new", EXTENDED)
    before, after = checkpoint.tensors(model), merge(model, new, tmp_path / "out")
    assert set(after) == set(before)
    assert ("lm_head.weight" in after) is not tied
    for name, tensor in after.items():
        assert tensor.dtype == dtype
        wide = name in ("model.embed_tokens.weight", "lm_head.weight")
        assert tensor.shape[0] == (265 if wide else before[name].shape[0])
        assert torch.equal(tensor[:260] if wide else tensor, before[name])
    grown = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert grown.config.vocab_size == grown.get_input_embeddings().num_embeddings == 265
    ids = torch.arange(20)[None]
    old = transformers.LlamaForCausalLM.from_pretrained(model)
    torch.testing.assert_close(grown(ids).logits[..., :260], old(ids).logits)


def test_rows_follow_their_tokens_where_ids_have_moved(tmp_path: Path) -> None:
    model = llama(tmp_path / "in")
    new = vocabulary(tmp_path / "new", EXTENDED, moved=True)
    before, after = checkpoint.tensors(model), merge(model, new, tmp_path / "out")
    old_ids = Tokenizer.from_file(str(model / saved.FILE)).get_vocab()
    ids = Tokenizer.from_file(str(new / saved.FILE)).get_vocab()
    assert ids["A"] != old_ids["A"]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        for piece, index in old_ids.items():
            assert torch.equal(after[name][ids[piece]], before[name][index]), piece
    config = checkpoint.read_config(tmp_path / "out")
    assert (config["bos_token_id"], config["pad_token_id"]) == (ids[END], ids[PAD])
    also = next(piece for piece, index in old_ids.items() if index == 5)
    assert config["eos_token_id"] == [ids[END], ids[also]]  # what ends an answer too stays so
    generation = checkpoint.read_generation_config(tmp_path / "out")
    assert (generation["eos_token_id"], generation["pad_token_id"]) == ([ids[END], ids[also]], ids[PAD])


def test_a_beginning_of_the_new_tokenizers_own(tmp_path: Path) -> None:
    """Documents begin with it from now on."""
    model, new = llama(tmp_path / "in"), vocabulary(tmp_path / "new", EXTENDED)
    told = json.loads((new / saved.CONFIG).read_text())
    (new / saved.CONFIG).write_text(json.dumps({**told, "bos_token": "A", "add_bos_token": True}))
    merge(model, new, tmp_path / "out")
    loaded = saved.load(new)
    assert checkpoint.read_config(tmp_path / "out")["bos_token_id"] == loaded.first_id != loaded.end_id


def test_ids_of_a_plain_config(tmp_path: Path) -> None:
    model = llama(tmp_path / "in")
    config = checkpoint.read_config(model) | {"eos_token_id": 7, "image_token_index": 9, "forced_token_id": -1}
    del config["bos_token_id"]
    (model / "config.json").write_text(json.dumps(config))
    merge(model, vocabulary(tmp_path / "new", EXTENDED), tmp_path / "out")
    found = checkpoint.read_config(tmp_path / "out")
    assert found == {**config, "vocab_size": 265, "eos_token_id": 0, "pad_token_id": 1}


def test_subpieces_are_the_mean_of_what_the_old_tokenizer_makes(tmp_path: Path) -> None:
    model, new = llama(tmp_path / "in"), vocabulary(tmp_path / "new", EXTENDED)
    after = merge(model, new, tmp_path / "out", rows=Rows.subpieces)
    ids = Tokenizer.from_file(str(new / saved.FILE)).get_vocab()
    parts = {
        "Ġthe": ["Ġ", "the"],
        "ä½": ["ä", "½"],  # a part of a character
        "ä½ł": ["ä", "½", "ł"],
        "there": ["the", "r", "e"],
    }
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        for piece, cut in parts.items():
            wanted = after[name][[ids[part] for part in cut]].mean(0)
            torch.testing.assert_close(after[name][ids[piece]], wanted)


def test_special_tokens_have_no_subpieces(tmp_path: Path) -> None:
    model, new = llama(tmp_path / "in"), vocabulary(tmp_path / "new", EXTENDED)
    made = Tokenizer.from_file(str(new / saved.FILE))
    made.add_special_tokens([AddedToken("<|user|>", special=True)])
    made.save(str(new / saved.FILE))
    after = merge(model, new, tmp_path / "out", rows=Rows.subpieces)
    old = checkpoint.tensors(model)["lm_head.weight"]
    torch.testing.assert_close(after["lm_head.weight"][made.token_to_id("<|user|>")], old.mean(0))


def many(folder: Path, count: int) -> Path:
    """The base's tokenizer with ``count`` more tokens."""
    content = json.loads((vocabulary(folder, BASE) / saved.FILE).read_text())
    for number in range(count):
        content["added_tokens"].append(
            {"id": 260 + number, "content": f"<x{number}>", "special": False, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False}
        )  # fmt: skip
    (folder / saved.FILE).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
def test_mean_and_covariance_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    """The same old rows and as many new ones: both samples have the mean of the old rows and their covariance times
    1e-9, the latter to within the error of a sample of 20,000."""
    count = 20_000
    model = llama(tmp_path / "in")
    ours = merge(model, many(tmp_path / "new", count), tmp_path / "out")[name][260:].double()
    theirs = transformers.LlamaForCausalLM.from_pretrained(model)
    torch.manual_seed(1)
    theirs.resize_token_embeddings(260 + count, mean_resizing=True)
    resized = theirs.state_dict()[name].double()
    old = checkpoint.tensors(model)[name].double()
    assert torch.equal(resized[:260], old)
    mean, covariance = old.mean(0), old.T.cov(correction=0)
    spread = 1e-9 * covariance.diag().mean()
    for sample in (ours, resized[260:]):
        # float32 holds numbers of this size to about 1e-9; the draws' own deviation is 1.6e-5.
        torch.testing.assert_close(sample.mean(0), mean, rtol=0, atol=5 * float(spread / count) ** 0.5 + 1e-8)
        torch.testing.assert_close(sample.T.cov() / spread, 1e-9 * covariance / spread, rtol=0, atol=0.06)


def test_scale_one_is_the_spread_of_the_old_rows(tmp_path: Path) -> None:
    model = llama(tmp_path / "in")
    new = many(tmp_path / "new", 20_000)
    after = merge(model, new, tmp_path / "out", scale=1.0)["lm_head.weight"][260:].double()
    old = checkpoint.tensors(model)["lm_head.weight"].double()
    covariance = old.T.cov(correction=0)
    torch.testing.assert_close(after.T.cov(), covariance, rtol=0, atol=0.06 * float(covariance.diag().mean()))


def test_more_columns_than_rows(tmp_path: Path) -> None:
    """A covariance of 512 columns from 260 rows has no inverse; a draw lies in the span of the old rows."""
    model = llama(tmp_path / "in", hidden=512)
    new = many(tmp_path / "new", 4000)
    after = merge(model, new, tmp_path / "out", scale=1.0)["lm_head.weight"][260:].double()
    old = checkpoint.tensors(model)["lm_head.weight"].double()
    assert torch.isfinite(after).all()
    assert torch.linalg.matrix_rank(after - old.mean(0), rtol=1e-5) == 259
    assert float((after.var(0) / old.var(0, correction=0)).mean()) == pytest.approx(1, abs=0.02)


def test_mean_normal_and_seeds(tmp_path: Path) -> None:
    model, new = llama(tmp_path / "in"), many(tmp_path / "new", 5000)
    old = checkpoint.tensors(model)
    mean = merge(model, new, tmp_path / "mean", rows=Rows.mean)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        torch.testing.assert_close(mean[name][260:], old[name].mean(0).expand(5000, -1))
    drawn = {
        key: merge(model, new, tmp_path / key, rows=Rows.normal, **given)["lm_head.weight"][260:]
        for key, given in {"a": {}, "b": {"seed": 1}, "c": {"std": 0.01}}.items()
    }
    assert float(drawn["a"].std()) == pytest.approx(0.5, rel=0.02)  # initializer_range of the model
    assert float(drawn["c"].std()) == pytest.approx(0.01, rel=0.02)
    assert not torch.equal(drawn["a"], drawn["b"])
    other = checkpoint.tensors(tmp_path / "a")["model.embed_tokens.weight"][260:]
    assert not torch.equal(drawn["a"], other)  # embedding and head draw apart
    again = merge(model, new, tmp_path / "again", rows=Rows.normal)
    assert torch.equal(again["lm_head.weight"][260:], drawn["a"])


def gpt2(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=260, n_embd=16, n_layer=2, n_head=2, n_positions=260)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    vocabulary(folder, BASE)
    return folder


def neox(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=260, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, tie_word_embeddings=False,
    )  # fmt: skip
    transformers.GPTNeoXForCausalLM(config).save_pretrained(folder)
    vocabulary(folder, BASE)
    return folder


def phi(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.PhiConfig(
        vocab_size=260, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = transformers.PhiForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.bias)
    model.save_pretrained(folder)
    vocabulary(folder, BASE)
    return folder


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (gpt2, {"transformer.wte.weight"}),  # as many positions as tokens
        (neox, {"gpt_neox.embed_in.weight", "lm_head.weight", "embed_out.weight"}),  # the name has changed once
        (phi, {"model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"}),
    ],
)
def test_other_families(tmp_path: Path, make: Any, found: set[str]) -> None:
    model = make(tmp_path / "in")
    new = vocabulary(tmp_path / "new", EXTENDED)
    before, after = checkpoint.tensors(model), merge(model, new, tmp_path / "out")
    grown = {name for name in after if after[name].shape != before[name].shape}
    assert grown
    assert grown <= found
    assert len(grown) == min(len(found), 2 + ("lm_head.bias" in found))
    for name in grown:
        assert torch.equal(after[name][:260], before[name])
        torch.testing.assert_close(after[name][260:].mean(0), before[name].mean(0), rtol=1e-3, atol=1e-3)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.get_input_embeddings().num_embeddings == 265
    assert loaded.get_output_embeddings().out_features == 265


def test_rows_without_a_token_are_not_kept_and_tokens_without_a_row_get_one(tmp_path: Path) -> None:
    model = llama(tmp_path / "in")
    new = vocabulary(tmp_path / "new", EXTENDED)
    # The model's own tokenizer has pieces beyond its rows (a token that was added and no row with it).
    shutil.copy(new / saved.FILE, model / saved.FILE)
    after = merge(model, new, tmp_path / "out", rows=Rows.mean)
    assert after["lm_head.weight"].shape[0] == 265
    # Rows beyond its tokens, as models padded for hardware have.
    vocabulary(model, BASE[:1])
    after = merge(model, vocabulary(tmp_path / "small", BASE[:1]), tmp_path / "padded")
    assert after["lm_head.weight"].shape[0] == 259
    assert torch.equal(after["lm_head.weight"], checkpoint.tensors(model)["lm_head.weight"][:259])


def test_a_smaller_vocabulary_only_where_it_is_meant(tmp_path: Path) -> None:
    model, new = llama(tmp_path / "in"), vocabulary(tmp_path / "new", BASE[:1])
    with pytest.raises(UserError, match=r"lacks 1 of .*'s tokens: 'the'\n.*would be lost(.|\n)*drop_old=true"):
        merge(model, new, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    after = merge(model, new, tmp_path / "out", drop_old=True)
    assert torch.equal(after["lm_head.weight"], checkpoint.tensors(model)["lm_head.weight"][:259])
    assert checkpoint.read_config(tmp_path / "out")["vocab_size"] == 259


def spoil_config(model: Path, new: Path, **more: Any) -> None:
    config = {key: value for key, value in (checkpoint.read_config(model) | more).items() if value is not None}
    (model / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda model, new: spoil_config(model, new, vocab_size=None), r"tells no vocab_size"),
        (lambda model, new: spoil_config(model, new, vocab_size=261), r"no embedding of 261 rows\n.*have 260"),
        (lambda model, new: (model / saved.FILE).unlink(), r"in/tokenizer\.json is missing"),
        (lambda model, new: (model / saved.FILE).write_text("{}"), r"in/tokenizer\.json cannot be read"),
        (lambda model, new: (new / saved.FILE).write_text("[]"), r"new/tokenizer\.json holds no JSON object"),
        (lambda model, new: (new / saved.CONFIG).write_text("{}"), r"names no eos_token"),
        (lambda model, new: (new / saved.CONFIG).unlink(), r"tokenizer_config\.json is missing"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path, spoil: Any, said: str) -> None:
    model, new = llama(tmp_path / "in"), vocabulary(tmp_path / "new", EXTENDED)
    spoil(model, new)
    with pytest.raises(UserError, match=said) as caught:
        merge(model, new, tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 3
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    model, new = llama(tmp_path / "in"), tmp_path / "new"
    made = Tokenizer(models.BPE(vocab={"好": 0, "世": 1, "</s>": 2, "<p>": 3}, merges=[]))
    made.add_special_tokens([AddedToken("</s>", special=True), AddedToken("<p>", special=True)])
    new.mkdir()
    made.save(str(new / saved.FILE))
    (new / saved.CONFIG).write_text(json.dumps({"eos_token": "</s>", "pad_token": "<p>"}))
    with pytest.raises(UserError, match="no token in common"):
        merge(model, new, tmp_path / "out", drop_old=True)


def test_quantised_and_ambiguous_models_are_refused(tmp_path: Path) -> None:
    model, new = llama(tmp_path / "in"), vocabulary(tmp_path / "new", EXTENDED)
    state = dict(checkpoint.tensors(model))
    config = {**checkpoint.read_config(model), "model_type": "unheard_of"}
    three = {**state, "other.weight": torch.zeros(260, 16)}
    checkpoint.write(tmp_path / "three", three, config)
    vocabulary(tmp_path / "three", BASE)
    with pytest.raises(UserError, match=r"lm_head\.weight, .*other\.weight have 260 rows each"):
        merge(tmp_path / "three", new, tmp_path / "out")
    eight = {name: tensor.to(torch.int8) if name == "lm_head.weight" else tensor for name, tensor in state.items()}
    checkpoint.write(tmp_path / "eight", eight, config)
    vocabulary(tmp_path / "eight", BASE)
    with pytest.raises(UserError, match=r"lm_head\.weight cannot get new rows\n.*it is I8"):
        merge(tmp_path / "eight", new, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_architecture_tells_which_of_several_it_is(tmp_path: Path) -> None:
    model, new = llama(tmp_path / "in"), vocabulary(tmp_path / "new", EXTENDED)
    state = {**checkpoint.tensors(model), "other.weight": torch.zeros(260, 16)}
    checkpoint.write(tmp_path / "more", state, checkpoint.read_config(model))
    vocabulary(tmp_path / "more", BASE)
    after = merge(tmp_path / "more", new, tmp_path / "out")
    assert [name for name, tensor in sorted(after.items()) if tensor.shape[0] == 265] == [
        "lm_head.weight", "model.embed_tokens.weight",
    ]  # fmt: skip


def test_without_a_tokenizer_it_says_what_to_type(tmp_path: Path) -> None:
    model = llama(tmp_path / "in")
    with pytest.raises(UserError) as caught:
        VocabularyRows(VocabularyRowsConfig()).merge([model], tmp_path / "out")
    said = str(caught.value).splitlines()
    assert len(said) == 3
    assert "lmgraft merge vocabulary_rows MODEL OUT --tokenizer FOLDER" in said[2]
    with pytest.raises(UserError, match="takes one model"):
        VocabularyRows(VocabularyRowsConfig()).merge_vocabulary([model, model], model, tmp_path / "out")


def test_sub_pieces_of_wordpiece(tmp_path: Path) -> None:
    """``##ing`` goes on within a word, and so do the pieces that it is made of."""
    from lmgraft_vocabulary_rows.vocabulary import OldTokenizer

    pieces = ["[UNK]", "i", "##i", "##n", "##g", "n", "##ng"]
    made = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    old = OldTokenizer(made)
    assert [pieces[index] for index in old.cut("##ing")] == ["##i", "##ng"]
    assert [pieces[index] for index in old.cut("ing")] == ["i", "##ng"]
    assert list(old.cut("ω")) == []


def test_sub_pieces_of_unigram_fall_back_to_bytes_or_to_nothing() -> None:
    from lmgraft_vocabulary_rows.vocabulary import OldTokenizer

    bytes_of = [(f"<0x{number:02X}>", -9.0) for number in range(256)]
    with_bytes = OldTokenizer(Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), *bytes_of], 0, True)))
    assert list(with_bytes.cut("aé")) == [1, 2 + 0xC3, 2 + 0xA9]
    without = OldTokenizer(Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0, False)))
    assert list(without.cut("aé")) == [1]
    assert list(OldTokenizer(Tokenizer(models.Unigram([("a", -1.0)], None, False))).cut("é")) == []


def problems(config: VocabularyRowsConfig, **inputs: tuple[str, ...]) -> list[Any]:
    node = SimpleNamespace(inputs=inputs)
    made = [SimpleNamespace(name=name, config=SimpleNamespace(artifact=kind)) for name, kind in
            (("base", "tokenizer"), ("extended", "tokenizer"), ("pretrain", "model"))]  # fmt: skip
    recipe: Any = SimpleNamespace(stages=made, stage=lambda name: node)
    return list(config.check_recipe(recipe, "widened"))


def test_a_recipe_is_checked_before_any_work() -> None:
    assert problems(VocabularyRowsConfig(), models=("pretrain",), tokenizer=("extended",)) == []
    (lacking,) = problems(VocabularyRowsConfig(), models=("pretrain",))
    assert lacking.remedy == "widened.tokenizer=extended"
    two, _ = problems(VocabularyRowsConfig(), models=("a", "b"))
    assert two.fact.startswith("widened.models=['a', 'b']")


def test_values_are_checked() -> None:
    assert list(VocabularyRowsConfig().check()) == []
    assert len(list(VocabularyRowsConfig(scale=-1.0, std=float("inf")).check())) == 2


def test_blocks_change_nothing_about_old_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmgraft_vocabulary_rows import rows

    model, new = llama(tmp_path / "in"), vocabulary(tmp_path / "new", EXTENDED)
    whole = merge(model, new, tmp_path / "whole", rows=Rows.subpieces)
    monkeypatch.setattr(rows, "BLOCK", 7)
    pieces = merge(model, new, tmp_path / "pieces", rows=Rows.subpieces)
    for name in whole:
        torch.testing.assert_close(whole[name], pieces[name])
    piece = streaming.pieces(model)["lm_head.weight"]
    old = rows.OldRows(piece)
    np.testing.assert_allclose(old.mean(), checkpoint.tensors(model)["lm_head.weight"].mean(0), atol=1e-6)
