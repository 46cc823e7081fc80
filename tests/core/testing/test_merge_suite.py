"""The suite of merges sees what is wrong, and says so by the right check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lmgraft.testing import MergeSuite, Nonconforming
from third_party import Distribution, component, module

AVERAGE = """\
import random

from lmgraft.artifacts import checkpoint
from lmgraft.errors import Problem, UserError


class Average:
    def __init__(self, config):
        pass

    def merge(self, models, out, progress=lambda done, total: None):
        first, second = (checkpoint.tensors(model) for model in models)
        shapes = [{name: header.shape for name, header in each.headers.items()} for each in (first, second)]
        if shapes[0] != shapes[1]:
            raise UserError(Problem("the models differ", "in their shapes", "others"))
        config = checkpoint.read_config(models[0])
        for model in models:
            checkpoint.read_config(model)
        state, total, done = {}, sum(first[name].nbytes for name in first), 0
        for name in first:
            state[name] = (first[name] + second[name]) / 2
            done += state[name].nbytes
            progress(done, total)
        checkpoint.write(out, state, config)
"""

READ, WRITE = "config = checkpoint.read_config(models[0])", "checkpoint.write(out, state, config)"
FOLDER, TRUTH = "test_writes_a_model_folder", "test_progress_reaches_the_end"
DTYPE = "test_tells_the_dtype_of_its_numbers"
REFUSAL = "test_unmergeable_models_are_refused_before_writing"

#: right, wrong, the check that sees it, a word of what it says
WRONG = [
    (READ, f"{READ} | {{'hidden_size': 9}}", FOLDER, "does not fit its tensors"),
    (WRITE, WRITE.replace("config", "config | {'num_hidden_layers': 31}"), FOLDER, "layers.31"),
    (WRITE, WRITE.replace("config", "config | {'lmgraft_new_layers': [1, 32]}"), FOLDER, "1, 32"),
    (WRITE, WRITE.replace("config", "config | {'lmgraft_new_layers': ['1']}"), FOLDER, "of these numbers"),
    ("second[name]) / 2", "second[name]) / 0", FOLDER, "not finite"),
    (WRITE, "out.mkdir(); (out / 'pytorch_model.bin').write_bytes(b'')", FOLDER, "pytorch_model.bin"),
    (WRITE, f"{WRITE.replace('out', 'models[1]')}; {WRITE}", "test_inputs_are_untouched", "changes a model"),
    ("            progress(done, total)\n", "", TRUTH, "0 times"),
    ("progress(done, total)", "progress(done, total + 1)", TRUTH, "does not end at its end"),
    ("raise UserError(", "raise ValueError(", REFUSAL, "breaks off on models of other shapes"),
    (
        "        first, second",
        "        (out.mkdir(), (out / 'x').touch())\n        first, second",
        REFUSAL,
        "it wrote x",
    ),
    (WRITE, WRITE.replace("config", "config | {'seed': random.random()}"), "test_equal_builds", "config.json"),
    ("", "", "test_streams", "in memory while it merges"),
    ("(first[name] + second[name]) / 2", "(first[name] + second[name]).double() / 2", DTYPE, "writes F64, and config"),
]


@contextmanager
def suite(site, source: str, light: str = "", **attributes: object) -> Iterator[MergeSuite]:
    files = {
        "wrong_merge/__init__.py": "",
        "wrong_merge/plugin.py": light or module("merge", component("wrong_merge", "wrong_merge.part:Average")),
        "wrong_merge/part.py": source,
    }
    site.install(Distribution("wrong-merge", files, {"merge": {"wrong_merge": "wrong_merge.plugin"}}))
    found = type("TestWrong", (MergeSuite,), {"component": "wrong_merge", **attributes})()
    found.setup_method()
    try:
        yield found
    finally:
        found.teardown_method()


@pytest.mark.parametrize(("right", "wrong", "check", "word"), WRONG, ids=[word for *_, word in WRONG])
def test_a_wrong_merge_is_seen(site, right, wrong, check, word):
    assert right in AVERAGE
    source = AVERAGE.replace(right, wrong) if right else AVERAGE
    with suite(site, source, models=2) as one, pytest.raises(Nonconforming, match=word):
        getattr(one, check)()


def test_what_holds_all_of_a_model_fails_by_its_memory_alone(site):
    with suite(site, AVERAGE, models=2) as one:
        for check in {check for *_, check, _ in WRONG} - {"test_streams"}:
            one.teardown_method()
            one.setup_method()
            getattr(one, check)()


PAIR_CONFIG = """
    from typing import ClassVar

    @dataclass
    class PairConfig(ComponentConfig):
        takes_models: ClassVar[tuple[int, int | None]] = (2, 2)
"""
PAIR = AVERAGE.replace("        first, second =", """\
        if len(models) != 2:
            raise UserError(Problem("it takes two", "others came", "two"))
        first, second =""")  # fmt: skip


@pytest.mark.parametrize(
    ("right", "wrong", "models", "word"),
    [
        ("", "", 2, ""),
        ("", "", 3, "say 2 to 2 models, and the suite gives it 3"),
        ("!= 2", "> 2", 2, "breaks off on 1 of the 2 models"),
        ("!= 2:", "< 2: raise UserError(Problem('a', 'b', 'c'))\n        if False:", 2, "breaks off on 3 models"),
    ],
)
def test_a_number_of_models_that_is_not_what_it_says(site, right, wrong, models, word):
    light = module("merge", component("wrong_merge", "wrong_merge.part:Average", "PairConfig"), before=PAIR_CONFIG)
    with suite(site, PAIR.replace(right, wrong) if right else PAIR, light=light, models=models) as one:
        if word:
            with pytest.raises(Nonconforming, match=word):
                one.test_refuses_another_number_of_models()
        else:
            one.test_refuses_another_number_of_models()


WIDER = """\
import json

import torch

from lmgraft.artifacts import checkpoint, tokenizer as saved
from lmgraft.errors import Problem, UserError


class Wider:
    def __init__(self, config):
        pass

    def merge(self, models, out, progress=lambda done, total: None):
        raise UserError(Problem("no tokenizer", "none", "one"))

    def merge_vocabulary(self, models, tokenizer, out, progress=lambda done, total: None):
        config, before = checkpoint.read_config(models[0]), checkpoint.tensors(models[0])
        loaded = saved.load(tokenizer)
        old, new = (json.loads((folder / "tokenizer.json").read_text()) for folder in (models[0], tokenizer))
        ids = {**old["model"]["vocab"], **{token["content"]: token["id"] for token in old["added_tokens"]}}
        state = {}
        for name, tensor in before.items():
            state[name] = tensor
            if tensor.dim() == 2 and tensor.shape[0] == config["vocab_size"]:
                state[name] = torch.zeros(loaded.vocab_size, tensor.shape[1])
                for piece, index in new["model"]["vocab"].items():
                    if piece in ids:
                        state[name][index] = tensor[ids[piece]]
        total = sum(tensor.nbytes for tensor in state.values())
        done = 0
        for tensor in state.values():
            done += tensor.nbytes
            progress(done, total)
        told = {"vocab_size": loaded.vocab_size, "eos_token_id": loaded.end_id, "pad_token_id": loaded.pad_id}
        checkpoint.write(out, state, {**config, **told})
"""
WIDER_CONFIG = """
    from typing import ClassVar

    @dataclass
    class WiderConfig(ComponentConfig):
        takes_tokenizer: ClassVar[bool] = True
"""
OLD = "test_old_tokens_keep_their_rows"


@pytest.mark.parametrize(
    ("right", "wrong", "word"),
    [
        ("", "", ""),
        ("= tensor[ids[piece]]", "= tensor[min(index, 257)]", "the row of '[ab]', number 6[56] now"),
        ('"vocab_size": loaded.vocab_size', '"vocab_size": 258', "tells of 258 tokens, and the tokenizer has 263"),
        ('"eos_token_id": loaded.end_id', '"eos_token_id": 3', "has eos_token_id 3, and the tokenizer's is 256"),
        ("tensor.dim() == 2 and", "name.startswith('lm') and", "model.embed_tokens.weight has 258 rows"),
        ("ClassVar[bool] = True", "ClassVar[bool] = False", "do not say that it takes a tokenizer"),
    ],
)
def test_a_wrong_vocabulary_is_seen(site, right, wrong, word):
    assert right in WIDER + WIDER_CONFIG
    source, config = (text.replace(right, wrong) if right else text for text in (WIDER, WIDER_CONFIG))
    light = module("merge", component("wrong_merge", "wrong_merge.part:Wider", "WiderConfig"), before=config)
    with suite(site, source, light=light) as one:
        if word:
            with pytest.raises(Nonconforming, match=word):
                getattr(one, OLD)()
        else:
            for check in (OLD, FOLDER, TRUTH, "test_inputs_are_untouched", REFUSAL):
                getattr(one, check)()


def test_a_merge_of_two_is_told_how_the_suite_gives_two(site):
    source = AVERAGE.replace("        first, second =", """\
        if len(models) != 2:
            raise UserError(Problem("it takes two", "one came", "two"))
        first, second =""")  # fmt: skip
    with suite(site, source) as one, pytest.raises(Nonconforming, match="models = N"):
        one.behaviour(one.build())
