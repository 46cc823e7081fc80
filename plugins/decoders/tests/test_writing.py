"""The module that writes: transformers' greedy ids in every family, the plain module's answers under every switch, rows
that come and go, 8-bit weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.loading import engine
from lmgraft.seams.architecture import DecoderSpec, RopeScaling, RowCache
from lmgraft.seams.parallelism import BatchingHandle, Sampling
from lmgraft.training import int8
from lmgraft_decoders import packing
from lmgraft_decoders.decoding import WritingDecoder
from lmgraft_decoders.model import DecoderModule
from lmgraft_decoders.rows import Rows

sys.path.insert(0, str(Path(__file__).parent))
from family_cases import CASES, folder_of, reference, tokens

ASKS = frozenset({"next_logits"})
BASE = DecoderSpec(layers=2, hidden=48, heads=6, kv_heads=2, head_dim=8, mlp=64, context=64)
GPT2 = replace(
    BASE, kv_heads=6, norm="layernorm", activation="gelu_tanh", gated=False, positions="learned", bias=True, tied=True
)
SPECS = {
    "llama": BASE,
    "gpt2": GPT2,
    "falcon": replace(GPT2, positions="rope", kv_heads=1, activation="gelu", bias=False, parallel_block=True),
    "two norms": replace(BASE, norm="layernorm", gated=False, parallel_block=True, shared_norm=False),
    "bloom": replace(GPT2, positions="alibi", embedding_norm=True),
    "window": replace(BASE, window=7, qkv_bias=True),
    "no norm": replace(BASE, norm="none", positions="none"),
    "scaled": replace(BASE, rope_scaling=RopeScaling(kind="llama3", factor=4.0, original_context=16)),
    "alibi, window": replace(BASE, positions="alibi", window=9),
}
pytestmark = pytest.mark.skipif(not packing.available(torch.device("cpu")), reason="torch without oneDNN here")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def module(spec: DecoderSpec, deviation: float = 0.3) -> DecoderModule:
    """Every gain, bias and weight matters."""
    made = DecoderModule(spec, 50)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            gain = "norm" in name and name.endswith("weight")
            parameter.normal_(1.0 if gain else 0.0, deviation, generator=generator)
    return made.eval()


def ids(length: int, seed: int) -> list[int]:
    return torch.randint(0, 50, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


class Texts:
    """Rows of a cache beside the same texts, each read whole by the plain module."""

    def __init__(self, plain: Callable[..., Any], writer: Callable[..., Any]) -> None:
        self.plain, self.writer = plain, writer
        self.rows: list[list[int]] = []
        self.cache: Any = None
        self.worst = 0.0
        self.seed = 100

    def join(self, text: list[int]) -> None:
        out = self.writer(torch.tensor([text]), asks=ASKS)
        assert isinstance(out.cache, RowCache)
        self.cache = out.cache if self.cache is None else self.cache.join(out.cache)
        self.rows.append(list(text))
        self._compare(out.next_logits, self.rows[-1:])

    def read(self, count: int = 1) -> None:
        new = []
        for row in self.rows:
            self.seed += 1
            new.append(ids(count, self.seed))
            row += new[-1]
        positions = torch.tensor([[len(row) - count + i for i in range(count)] for row in self.rows])
        out = self.writer(torch.tensor(new), positions=positions, asks=ASKS, cache=self.cache)
        self.cache = out.cache
        self._compare(out.next_logits, self.rows)

    def select(self, rows: list[int]) -> None:
        self.rows = [list(self.rows[row]) for row in rows]
        self.cache = self.cache.select(rows)

    def _compare(self, got: torch.Tensor, rows: list[list[int]]) -> None:
        for answer, row in zip(got, rows, strict=True):
            wanted = self.plain(torch.tensor([row]), asks=ASKS).next_logits[0]
            self.worst = max(self.worst, float((answer - wanted).abs().max() / wanted.std()))


def whole_life(plain: Callable[..., Any], writer: Callable[..., Any]) -> float:
    """Joining, leaving, turning round, several tokens at once; the largest error, in deviations of the logits."""
    texts = Texts(plain, writer)
    with torch.inference_mode():
        for length in (5, 12, 1):
            texts.join(ids(length, length))
        for _ in range(4):
            texts.read()
        texts.select([1, 0])
        texts.read(3)
        texts.join(ids(9, 9))
        for _ in range(8):
            texts.read()
        texts.read(2)
        texts.select([2])
        for _ in range(4):
            texts.read()
    return texts.worst


@pytest.mark.parametrize("name", list(SPECS))
def test_rows_that_come_and_go_are_answered_as_each_alone(name: str) -> None:
    plain = module(SPECS[name])
    writer = plain.generation()
    assert isinstance(writer, WritingDecoder)
    assert whole_life(plain, writer) < 1e-4


@pytest.mark.parametrize("name", list(SPECS))
def test_bfloat16_is_as_near_to_float32_as_autocast_is(name: str) -> None:
    plain = module(SPECS[name], 0.12)
    text = torch.tensor([ids(20, 1), ids(20, 2), ids(20, 3)])
    with torch.inference_mode():
        exact = plain(text, asks=ASKS).next_logits
        found = []
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for asked in (plain, plain.generation()):
                out = asked(text[:, :-4], asks=ASKS)
                for at in range(16, 20):
                    out = asked(text[:, at : at + 1], asks=ASKS, cache=out.cache)
                assert out.next_logits.dtype == torch.float32
                found.append(float((out.next_logits - exact).pow(2).mean().sqrt() / exact.std()))
    autocast, ours = found
    assert 0 < ours < max(2 * autocast, 0.02)


@pytest.mark.parametrize("name", list(CASES))
def test_greedy_ids_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    theirs = reference(name)
    prompts = [tokens(1, length, length)[0].tolist() for length in (3, 11, 6)]
    width, new = max(map(len, prompts)), 20
    padded = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    settings = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    theirs.generation_config.eos_token_id = None
    expected = theirs.generate(padded, attention_mask=mask, **settings)[:, width:].tolist()
    handle = engine(folder_of(name, theirs, tmp_path), device="cpu", precision="float32", parallelism="single").handle()
    assert isinstance(handle, BatchingHandle)
    texts = handle.decoding()
    sampling = Sampling(max_new_tokens=new, temperature=0)
    made: dict[int, list[int]] = {texts.add(prompt, sampling): [] for prompt in prompts}
    while len(texts):
        for number, token, _ in texts.step():
            made[number].append(token)
    assert list(made.values()) == expected
    assert list(handle.generate(prompts[0], sampling)) == expected[0]


def test_a_repetition_penalty_is_that_of_transformers(tmp_path: Path) -> None:
    theirs = reference("llama")
    theirs.generation_config.eos_token_id = None
    prompt = tokens(1, 9)
    expected = theirs.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=30, do_sample=False, repetition_penalty=1.7
    )[0, 9:].tolist()
    handle = engine(
        folder_of("llama", theirs, tmp_path), device="cpu", precision="float32", parallelism="single"
    ).handle()
    sampling = Sampling(max_new_tokens=30, temperature=0, repetition_penalty=1.7)
    free = list(handle.generate(prompt[0].tolist(), replace(sampling, repetition_penalty=1.0)))
    assert list(handle.generate(prompt[0].tolist(), sampling)) == expected != free


def test_what_it_does_not_know_goes_to_the_plain_module() -> None:
    plain = module(BASE)
    writer = plain.generation()
    text = torch.tensor([ids(6, 1)])
    with torch.inference_mode():
        asked = {"targets": text, "asks": frozenset({"logprob", "greedy"})}
        assert torch.equal(writer(text, **asked).logprob, plain(text, **asked).logprob)
        padded = {"segments": torch.tensor([[-1, -1, 0, 0, 0, 0]]), "asks": ASKS}
        out = writer(text, **padded)
        assert torch.equal(out.next_logits, plain(text, **padded).next_logits)
        more = writer(text[:, :1], cache=out.cache, asks=ASKS)  # the plain module's cache goes on with it
        assert not isinstance(more.cache, Rows)


def test_experts_and_strange_projections_are_left_to_the_plain_module() -> None:
    experts = module(replace(BASE, experts=4, experts_per_token=2))
    assert experts.generation() is experts
    adapted = module(BASE)
    adapted.model.layers[0].mlp.up_proj = torch.nn.Linear(48, 64, bias=False)
    assert adapted.generation() is adapted


def test_no_processor_library_no_module_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "available", lambda device: False)
    plain = module(BASE)
    assert plain.generation() is plain


def test_no_memory_for_the_weights_twice_no_module_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module(BASE)
    assert packing.free_memory() > 1e6
    once = 2 * (48 * (2 * 48 + 2 * 16) + 3 * 48 * 64) + 50 * 48
    monkeypatch.setattr(packing, "free_memory", lambda: 3.0 * once)
    assert plain.generation() is plain
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert plain.generation() is not plain


def test_without_its_bfloat16_torchs_product_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module(BASE, 0.12)
    text = torch.tensor([ids(20, 1)])
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        fast = plain.generation()(text, asks=ASKS).next_logits
        monkeypatch.setattr(packing, "_bfloat16", lambda: False)
        slow = plain.generation()(text, asks=ASKS).next_logits
    assert torch.allclose(fast, slow, atol=0.03 * float(slow.std()))


@pytest.mark.parametrize("compute", [None, torch.bfloat16])
def test_int8_weights_are_asked_as_they_are(compute: torch.dtype | None) -> None:
    plain = module(BASE, 0.12)
    names = [name for name, part in plain.model.named_modules() if isinstance(part, torch.nn.Linear)]
    int8.quantize_(plain.model, names, compute=compute)
    writer = plain.generation()
    assert isinstance(writer, WritingDecoder)
    assert whole_life(plain, writer) < (3e-5 if compute is None else 0.1)


def test_a_full_store_keeps_no_more_than_the_window() -> None:
    plain = module(SPECS["window"])
    writer, text = plain.generation(), ids(60, 1) * 3
    with torch.inference_mode():
        cache = writer(torch.tensor([text[:30]]), asks=ASKS).cache
        for at in range(30, len(text)):
            place = torch.tensor([[at]])
            cache = writer(torch.tensor([[text[at]]]), positions=place, asks=ASKS, cache=cache).cache
        assert cache.keys[0].shape[3] <= 30 + 64 + 7
        told = writer(torch.tensor([[3]]), positions=torch.tensor([[len(text)]]), asks=ASKS, cache=cache).next_logits
        # Two layers of a window of 7 see 13 tokens; rotary positions are relative.
        wanted = plain(torch.tensor([[*text[-20:], 3]]), asks=ASKS).next_logits
    assert torch.allclose(told, wanted, atol=1e-4 * float(wanted.std()))


def test_the_room_of_rows_that_left_is_given_back() -> None:
    plain = module(BASE)
    texts = Texts(plain, plain.generation())
    with torch.inference_mode():
        texts.join(ids(50, 1))
        texts.join(ids(4, 2))
        texts.select([1])
    assert texts.cache.end == 4
