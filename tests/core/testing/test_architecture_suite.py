"""The suite of architectures sees what is wrong, by the right check and in words that name it."""

from __future__ import annotations

from typing import Any

import pytest
from lmgraft.testing import ArchitectureSuite
from lmgraft.testing.running import Result, run
from third_party import Distribution, component, module

CONFIG = '''
from enum import Enum

from lmgraft.errors import Problem, UserError


class Shape(Enum):
    plain = "plain"
    other = "other"


@dataclass
class Shaky(Config):
    hidden: int = 16
    """Width."""
    context: int = 64
    """Rows of the table of positions."""
    bias: bool = False
    """Of the queries."""
    slope: float = 1.0
    """Of attention's scores."""
    shape: Shape = Shape.plain
    """Of the norm."""
    top: int | None = None
    """Largest id that is read."""
    rows: int = execution(8)
    """At a time."""
    wrong: str = ""
    """What is wrong with it."""

    def provides(self):
        return frozenset({"norm"})

    @classmethod
    def from_hub(cls, config):
        if config.get("model_type", "shaky") != "shaky":
            return None
        wrong, given = config["wrong"], {key: config[key] for key in ("bias", "slope", "top", "size")}
        if wrong.startswith("forgets the "):
            given.pop(wrong.removeprefix("forgets the "), None)
        if wrong == "refuses a slope" and config["slope"] != 1:
            raise UserError(Problem("slopes are not known here", "they are new", "leave it"))
        shape = Shape.plain if wrong == "forgets the shape" else Shape(config["shape"])
        return cls(hidden=config["hidden"], context=config.get("context", 8), wrong=wrong, shape=shape, **given)
'''

#: One layer of attention between two tables; ``wrong`` breaks one thing.
MODEL = """
import copy

import torch
from lmgraft.errors import Fault
from lmgraft.seams.architecture import DecoderSpec, Role, TensorRole
from lmgraft.training.asks import COMPUTED, compute
from torch import nn

ROLES = {
    "embed.weight": TensorRole(Role.EMBEDDING), "places.weight": TensorRole(Role.POSITION),
    "query.weight": TensorRole(Role.QUERY, 0), "key.weight": TensorRole(Role.KEY, 0),
    "value.weight": TensorRole(Role.VALUE, 0), "out.weight": TensorRole(Role.ATTENTION_OUT, 0),
    "norm.weight": TensorRole(Role.NORM), "norm.bias": TensorRole(Role.BIAS), "lm_head.weight": TensorRole(Role.HEAD),
}


class Shaky:
    def __init__(self, config):
        self.config = config

    def build(self, vocab_size, device="meta"):
        if self.config.wrong == "table":
            self.table = torch.zeros(256, 256)
        with torch.device("cpu" if self.config.wrong == "device" else device):
            return Model(self.config, vocab_size)

    def role(self, name):
        one = ROLES.get(name, TensorRole(Role.OTHER))
        if self.config.wrong == "layers from 1" and one.layer is not None:
            return TensorRole(one.role, 1)
        return TensorRole(Role.NORM) if self.config.wrong == "role" and name == "key.weight" else one

    def flops(self, seq_len, vocab_size=0):
        hidden = self.config.hidden
        wrong = self.config.wrong
        if wrong == "no flops":
            return None
        matrices = {"three of four": 3, "five of four": 5}.get(wrong, 4) * hidden**2
        attention = {"no attention": 0.0, "a third of attention": 4.0, "causal": 6.0}.get(wrong, 12.0)
        head = 0 if wrong == "no head" else vocab_size * hidden
        flops = 6.0 * (matrices + head) + attention * hidden * seq_len
        return flops / (seq_len if self.config.wrong == "flops" else 1)

    def context(self):
        return None if self.config.wrong == "no context" else self.config.context

    def hub_config(self, vocab_size):
        found = {
            "model_type": "shaky", "architectures": ["Shaky"], "vocab_size": vocab_size, "hidden": self.config.hidden,
            "bias": self.config.bias, "slope": self.config.slope, "shape": self.config.shape.value,
            "top": self.config.top, "size": self.config.size, "wrong": self.config.wrong,
            "tie_word_embeddings": self.config.wrong == "tied in words",
        }
        if self.config.wrong == "no config":
            return None
        if self.config.wrong == "no kind":
            del found["model_type"]
        if self.config.wrong == "no json":
            found["dtype"] = torch.float32
        return found if self.config.wrong == "forgets the context" else {**found, "context": self.config.context}

    def to_hub(self, tensors):
        found = dict(tensors)
        if self.config.wrong == "loses a tensor":
            del found["norm.bias"]
        return {name: one.bfloat16().float() for name, one in found.items()} if self.config.wrong == "rounds" else found

    def spec(self):
        if self.config.wrong in ("spec", "five of four"):
            hidden = self.config.hidden
            return DecoderSpec(layers=1, hidden=hidden, heads=1, kv_heads=1, head_dim=hidden, mlp=1, context=64)


class Kept:
    def __init__(self, parts, wrong):
        self.parts, self.wrong = parts, wrong

    def select(self, rows):
        rows = sorted(rows) if self.wrong == "keeps the order" else list(rows)
        return Kept(tuple(part[rows] for part in self.parts), self.wrong)

    def join(self, other):
        length = max(one.parts[0].shape[1] for one in (self, other))
        both = [[self.padded(part, length) for part in one.parts] for one in (self, other)]
        if self.wrong == "turns rows round":
            both.reverse()
        return Kept(tuple(torch.cat(pair) for pair in zip(*both)), self.wrong)

    def padded(self, part, length):
        found = part.new_zeros(part.shape[0], length, *part.shape[2:])
        if part.dim() == 2 and self.wrong != "sees padding":
            found -= 1
        found[:, length - part.shape[1] :] = part
        return found


class Model(nn.Module):
    def __init__(self, config, vocab_size):
        super().__init__()
        hidden, self.wrong = config.hidden, config.wrong
        self.embed, self.places = nn.Embedding(vocab_size, hidden), nn.Embedding(config.context, hidden)
        self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden, bias=False) for _ in range(4))
        self.norm, self.lm_head = nn.LayerNorm(hidden), nn.Linear(hidden, vocab_size, bias=False)
        if self.wrong == "unread":
            self.spare = nn.Parameter(torch.empty(3))
        if self.wrong == "empty":
            self.spare = nn.Parameter(torch.empty(0))

    def forward(self, tokens, positions=None, segments=None, targets=None, asks=(), cache=None):
        asks, wrong = frozenset(asks), self.wrong
        if wrong == "knows every ask":
            asks &= COMPUTED | {"next_logits"}
        if wrong == "kept in the module":
            cache = getattr(self, "kept", None) if cache is not None else None
        past = 0 if cache is None else cache.parts[0].shape[1]
        if positions is None or (wrong == "counts columns" and past):
            positions = torch.arange(past, past + tokens.shape[1]) + (wrong == "counts from 1")
        if segments is None:
            segments = torch.zeros_like(tokens) if cache is None else cache.parts[2][:, -1:].expand_as(tokens)
        x = self.embed(tokens) + self.places(positions.clamp_min(0))
        if wrong == "mixes rows":
            x = x + x.mean(0, keepdim=True)
        if wrong == "rolls rows":
            x = x.roll(1, 0)
        if wrong == "segments of row 0":
            segments = segments[:1].expand_as(segments)
        if wrong == "centres":
            x = x - x.mean(1, keepdim=True)
        keys, values, known = self.key(x), self.value(x), segments
        if cache is not None:
            keys, values, known = (torch.cat(pair, 1) for pair in zip(cache.parts, (keys, values, known)))
        x = self.norm(x + self.out(self.attend(self.query(x), keys, values, segments, known, past)))
        if wrong == "ignores tokens":
            x = x * 0
        if wrong == "empty":
            x = x + self.spare.sum()
        out = compute(x, self.lm_head.weight, targets, asks - {"next_logits"} | self.more(targets))
        if "next_logits" in asks:
            out.next_logits, out.cache = self.lm_head(x[:, -1]).float(), Kept((keys, values, known), wrong)
            self.kept = out.cache
            if wrong == "one by one":
                del Kept.select, Kept.join
            if wrong == "never apart":
                del Kept.select
        return self.changed(out, x, targets)

    def generation(self):
        made = copy.deepcopy(self)
        if self.wrong == "no module":
            return None
        if self.wrong == "other weights":
            made.lm_head.weight.data.mul_(1.01)
        if self.wrong == "joins otherwise":
            made.wrong = "sees padding"
        return made

    def more(self, targets):
        return frozenset({"logsumexp"}) if self.wrong == "gives more" else frozenset()

    def changed(self, out, x, targets):
        if self.wrong == "bits" and out.entropy is not None:
            out.entropy = out.entropy / 0.6931
        if self.wrong == "negative targets" and out.logprob is not None:
            again = compute(x, self.lm_head.weight, targets.clamp_min(0), {"logprob"})
            out.logprob = again.logprob
        if self.wrong == "half" and torch.is_autocast_enabled("cpu") and out.logprob is not None:
            out.logprob = out.logprob.bfloat16()
        return out

    def attend(self, query, keys, values, segments, known, past):
        seen = torch.ones(query.shape[1], keys.shape[1], dtype=torch.bool).tril(past)
        if self.wrong == "padding is seen":
            segments, known = segments.clamp_min(0), known.clamp_min(0)
        if self.wrong == "documents are seen":
            segments, known = segments.clamp_max(0), known.clamp_max(0)
        seen = seen & (segments[:, :, None] == known[:, None, :])
        if self.wrong == "nan":
            seen = seen & (known >= 0)[:, None, :]
        scores = query @ keys.transpose(1, 2) / query.shape[-1] ** 0.5
        return torch.softmax(scores.masked_fill(~seen, float("-inf")), -1) @ values
"""

SHAKY = Distribution(
    "shaky",
    {
        "shaky_parts.py": module("architecture", component("shaky", "shaky_model:Shaky", "Shaky"), before=CONFIG),
        "shaky_model.py": MODEL,
    },
    {"architecture": {"shaky": "shaky_parts"}},
    requires=["lmgraft<0.2"],
)


def results(site: Any, only: str = "", **settings: Any) -> list[Result]:
    site.install(SHAKY)
    kind = type("TestShaky", (ArchitectureSuite,), {"component": "shaky", "settings": settings})
    return list(run(kind, only))


def test_a_sound_one_passes_everything(site: Any) -> None:
    found = results(site)
    assert [one for one in found if one.state == "failed"] == []
    assert [one for one in found if one.state == "skipped"] == []


@pytest.mark.parametrize(
    ("wrong", "check", "words"),
    [
        ("table", "test_meta_allocates_nothing", ["262,144 bytes", "torch.device(device)"]),
        ("device", "test_meta_allocates_nothing", ["embed.weight lies on cpu"]),
        ("mixes rows", "test_rows_are_apart", ["mixes the rows of a batch", "at row 0", "dimension 0 is the batch"]),
        ("rolls rows", "test_rows_are_apart", ["mixes the rows of a batch", "dimension 0 is the batch"]),
        ("segments of row 0", "test_rows_are_apart", ["row 1 of 3 packed", "at row 1", "each row's own"]),
        ("centres", "test_causality", ["looks ahead", "mask"]),
        ("ignores tokens", "test_causality", ["whatever token 0 is"]),
        ("padding is seen", "test_padding_changes_nothing", ["padding at the left", "segments"]),
        ("nan", "test_padding_changes_nothing", ["not finite", "itself at least"]),
        ("documents are seen", "test_packing_changes_nothing", ["see one another", "segments"]),
        ("kept in the module", "test_cache_equals_no_cache", ["not into the module"]),
        ("keeps the order", "test_rows_of_a_cache", ["put into another order", "in that order"]),
        ("turns rows round", "test_rows_of_a_cache", ["a shorter one was joined", "text 0"]),
        ("sees padding", "test_rows_of_a_cache", ["a shorter one was joined", "text 2, of 2 tokens", "hides the"]),
        ("counts columns", "test_rows_of_a_cache", ["a shorter one was joined", "each row's own"]),
        ("never apart", "test_rows_of_a_cache", ["has no select()", "or neither"]),
        ("no module", "test_generation_module", ["gives a NoneType", "nn.Module"]),
        ("other weights", "test_generation_module", ["other logits than the module, after 8 tokens", "the same"]),
        ("joins otherwise", "test_generation_module", ["a row of the cache of its generation()", "a shorter one"]),
        ("loses a tensor", "test_parameter_count", ["a weight is lost", "to_hub"]),
        ("loses a tensor", "test_hub_round_trip", ["norm.bias does not come back"]),
        ("tied in words", "test_parameter_count", ["tie_word_embeddings"]),
        ("rounds", "test_hub_round_trip", ["changes in to_hub"]),
        ("spec", "test_parameter_count", ["its spec", "DECODER_NAMES"]),
        ("no json", "test_hub_config", ["is no JSON"]),
        ("no json", "test_config_json_is_read_back", ["hub_config() of architecture shaky is no JSON"]),
        ("no config", "test_hub_config", ["gives None", "a JSON object"]),
        ("no config", "test_config_json_is_read_back", ["gives None", "a JSON object"]),
        ("forgets the context", "test_config_json_is_read_back", ["context: 64 and 8", "every field"]),
        ("forgets the bias", "test_config_json_is_read_back", ["with bias=True", "bias: True and False came back"]),
        ("forgets the slope", "test_config_json_is_read_back", ["with slope=2.0", "slope: 2.0 and 1.0"]),
        ("forgets the shape", "test_config_json_is_read_back", ["with shape=other"]),
        ("forgets the top", "test_config_json_is_read_back", ["with top=2", "top: 2 and None"]),
        ("refuses a slope", "test_config_json_is_read_back", ["with slope=2.0", "slopes are not known here"]),
        ("role", "test_roles", ["key.weight of shape (16, 16) has the role norm"]),
        ("layers from 1", "test_roles", ["numbers its layers 1"]),
        ("no flops", "test_flops", ["flops() gives [None, ", "positive numbers"]),
        ("no context", "test_causality", ["context() is None", "whole number"]),
        ("empty", "test_gradients_reach_everything", ["no gradient reaches spare"]),
        ("flops", "test_flops", ["falls with the length"]),
        ("three of four", "test_flops", ["flops(4, 97) is", "as much as query.weight takes", "6 for each weight"]),
        ("five of four", "test_flops", ["a decoder makes no other products"]),
        ("no head", "test_flops", ["flops(4, 97) is", "as much as lm_head.weight takes"]),
        ("no attention", "test_flops", ["grows by 0 from the length 4 to 24", "12 * its width * seq_len"]),
        ("a third of attention", "test_flops", ["grows by", "causal count"]),
        ("unread", "test_gradients_reach_everything", ["no gradient reaches spare"]),
        ("half", "test_gradients_reach_everything", ["answers in torch.bfloat16", "float32"]),
        ("bits", "test_asks", ["entropy is not that of its logits"]),
        ("negative targets", "test_asks", ["logprob", "a negative target gives 0"]),
        ("gives more", "test_only_what_is_asked", ["gives logsumexp when asked for"]),
        ("knows every ask", "test_only_what_is_asked", ["passes over the ask value", "Fault"]),
        ("counts from 1", "test_forward_arguments", ["positions None counts from 0"]),
    ],
)
def test_what_is_wrong_is_named(wrong: str, check: str, words: list[str], site: Any) -> None:
    (found,) = results(site, check, wrong=wrong)
    said = f"{found.fact} | {found.cause} | {found.remedy}"
    assert found.state == "failed", f"{wrong} went unseen"
    assert [word for word in words if word not in said] == [], said


def test_caches_of_one_text_each_are_no_fault(site: Any) -> None:
    (found,) = results(site, "test_rows_of_a_cache", wrong="one by one")
    assert found.state == "skipped", found
    assert "by turns" in found.reason


@pytest.mark.parametrize("wrong", ["mixes rows", "rolls rows"])
def test_mixed_rows_are_named_first(wrong: str, site: Any) -> None:
    failed = [one.check for one in results(site, wrong=wrong) if one.state == "failed"]
    assert failed[0] == "test_rows_are_apart", failed


def test_a_config_json_of_no_kind_is_named(site: Any) -> None:
    failed = {one.check: one.fact for one in results(site, "hub_config", wrong="no kind") if one.state == "failed"}
    assert "has no model_type" in failed["test_hub_config"]
    (found,) = results(site, "config_json", wrong="no kind")
    assert found.state == "passed", found


def test_a_causal_count_is_one_too(site: Any) -> None:
    (found,) = results(site, "test_flops", wrong="causal")
    assert found.state == "passed", found


def test_a_huge_model_is_not_filled(site: Any) -> None:
    (found,) = results(site, "test_causality", hidden=200_000)
    assert "parameters with these settings" in found.fact
    assert "settings = " in found.remedy
    (meta,) = results(site, "test_meta_allocates_nothing", hidden=200_000)
    assert meta.state == "passed"
