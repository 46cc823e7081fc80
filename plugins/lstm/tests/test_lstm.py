"""The LSTM beside torch.nn.LSTM with the same weights, and beside itself: packed, padded, cached, row by row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmgraft.errors import Fault, UserError
from lmgraft.seams.architecture import Role, RowCache
from lmgraft_lstm.architecture import Lstm
from lmgraft_lstm.model import GATES, LstmModule
from lmgraft_lstm.plugin import LstmConfig
from lmgraft_lstm.runs import batches
from torch import nn

V, HIDDEN, LAYERS = 61, 24, 2


def made(tied: bool = False, seed: int = 0) -> LstmModule:
    module = Lstm(LstmConfig(layers=LAYERS, hidden=HIDDEN, tied=tied)).build(V, "cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    return module.eval()  # type: ignore[return-value]


def tokens(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(seed))


def theirs(module: LstmModule) -> nn.LSTM:
    """torch's own layers with these weights: each layer's gates one below the other, the second bias 0."""
    lstm = nn.LSTM(HIDDEN, HIDDEN, LAYERS, batch_first=True)
    with torch.no_grad():
        for number, layer in enumerate(module.layers):
            gates = [layer.get_submodule(name) for name in ("input_gate", "forget_gate", "cell_gate", "output_gate")]
            getattr(lstm, f"weight_ih_l{number}").copy_(torch.cat([gate.input_weight for gate in gates]))
            getattr(lstm, f"weight_hh_l{number}").copy_(torch.cat([gate.state_weight for gate in gates]))
            bias = torch.cat([gate.bias for gate in gates])
            bias[HIDDEN : 2 * HIDDEN] += 1.0  # the forget gates start open
            getattr(lstm, f"bias_ih_l{number}").copy_(bias)
            getattr(lstm, f"bias_hh_l{number}").zero_()
    return lstm


def test_answers_and_gradients_equal_those_of_torch() -> None:
    module, ids = made(), tokens(3, 20)
    reference, goal = theirs(module), tokens(3, 20, seed=2)
    embedded = module.embed_tokens.weight.detach().clone().requires_grad_()
    logits = reference(embedded[ids])[0] @ module.lm_head.weight.detach().T
    expected = torch.log_softmax(logits, -1).gather(-1, goal[..., None])[..., 0]
    out = module(ids, targets=goal, asks={"logprob", "next_logits"})
    assert (out.logprob - expected).abs().max() < 1e-5
    assert (out.next_logits - logits[:, -1]).abs().max() < 1e-5
    expected.sum().backward()
    out.logprob.sum().backward()
    assert (module.embed_tokens.weight.grad - embedded.grad).abs().max() < 1e-5
    for number, layer in enumerate(module.layers):
        for at, name in enumerate(GATES):
            gate, rows = layer.get_submodule(name), slice(at * HIDDEN, (at + 1) * HIDDEN)
            for own, other in (("input_weight", "weight_ih"), ("state_weight", "weight_hh"), ("bias", "bias_ih")):
                right = getattr(reference, f"{other}_l{number}").grad[rows]
                assert (getattr(gate, own).grad - right).abs().max() < 1e-5, (number, name, own)


def test_the_cell_is_that_of_the_papers() -> None:
    """One step by hand, from the equations."""
    module = made()
    layer, x = module.layers[0], module.embed_tokens.weight[5]
    gate = {name: layer.get_submodule(name) for name in GATES}
    into = {name: one.input_weight @ x + one.bias for name, one in gate.items()}
    cell = torch.sigmoid(into["input_gate"]) * torch.tanh(into["cell_gate"])
    hidden = torch.sigmoid(into["output_gate"]) * torch.tanh(cell)
    cache = module(torch.tensor([[5]]), asks={"next_logits"}).cache
    assert (cache.hidden[0, 0] - hidden).abs().max() < 1e-6
    assert (cache.cells[0, 0] - cell).abs().max() < 1e-6
    again = {name: one.input_weight @ x + one.state_weight @ hidden + one.bias for name, one in gate.items()}
    cell = torch.sigmoid(again["forget_gate"] + 1) * cell
    cell = cell + torch.sigmoid(again["input_gate"]) * torch.tanh(again["cell_gate"])
    assert (module(torch.tensor([[5, 5]]), asks={"next_logits"}).cache.cells[0, 0] - cell).abs().max() < 1e-6


def packed_row(lengths: list[int], left: int, right: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Segments and positions of documents of these lengths in one row, padding around them."""
    parts = [(left, -1), *((size, number) for number, size in enumerate(lengths)), (right, -1)]
    return (
        torch.cat([torch.full((1, size), number) for size, number in parts], 1),
        torch.cat([torch.arange(size) for size, _ in parts])[None],
    )


@pytest.mark.parametrize(("left", "right"), [(0, 4), (3, 0), (0, 0), (2, 2)])
def test_packed_documents_equal_separate_ones(left: int, right: int) -> None:
    lengths = [7, 1, 12, 1]
    documents = [tokens(1, size, seed=n) for n, size in enumerate(lengths)]
    goals = [tokens(1, size, seed=100 + n) for n, size in enumerate(lengths)]
    module = made()
    outs = [module(ids, targets=goal, asks={"logprob"}).logprob for ids, goal in zip(documents, goals, strict=True)]
    sum(out.sum() for out in outs).backward()
    expected = {name: one.grad.clone() for name, one in module.named_parameters()}
    module.zero_grad()
    segments, positions = packed_row(lengths, left, right)

    def wide(parts: list[torch.Tensor], fill: int) -> torch.Tensor:
        return nn.functional.pad(torch.cat(parts, 1), (left, right), value=fill)

    out = module(
        wide(documents, 0), positions=positions, segments=segments, targets=wide(goals, -1), asks={"logprob"}
    ).logprob
    out.sum().backward()
    assert (out[:, left : left + sum(lengths)] - torch.cat(outs, 1)).abs().max() < 1e-5
    assert torch.isfinite(out).all()
    for name, one in module.named_parameters():
        assert (one.grad - expected[name]).abs().max() < 1e-5 * max(1.0, expected[name].abs().max().item()), name


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 3), min_size=9, max_size=9), min_size=1, max_size=4))
def test_documents_of_about_one_length_are_read_together(rows: list[list[int]]) -> None:
    segments = torch.tensor(rows)
    found = []
    for grid, there in batches(segments):
        lengths = there.sum(1)
        assert lengths.max() == grid.shape[1]
        assert (lengths >= 0.75 * lengths.max()).all()
        found += [line[:size].tolist() for line, size in zip(grid, lengths, strict=True)]
    expected = []
    for row, line in enumerate(rows):
        cuts = (torch.tensor(line)[1:] != torch.tensor(line)[:-1]).nonzero()[:, 0] + 1
        at = row * 9 + torch.arange(9)
        expected += [span.tolist() for span in at.tensor_split(cuts) if line[int(span[0]) - row * 9] >= 0]
    assert sorted(found) == sorted(expected)


def test_a_row_of_padding_alone_is_finite() -> None:
    module, ids = made(), tokens(2, 4)
    for segments in (torch.full((2, 4), -1), torch.tensor([[-1] * 4, [0] * 4])):
        out = module(ids, segments=segments, targets=ids, asks={"logprob", "next_logits"})
        assert torch.isfinite(out.logprob).all()
        assert out.cache is None


def test_a_cache_changes_nothing() -> None:
    module, ids = made(), tokens(2, 30)
    with torch.inference_mode():
        out, at = module(ids[:, :5], asks={"next_logits"}), 5
        for size in (1, 7, 1, 16):
            out = module(ids[:, at : at + size], asks={"next_logits"}, cache=out.cache)
            at += size
            expected = module(ids[:, :at], asks={"next_logits"})
            assert (out.next_logits - expected.next_logits).abs().max() < 1e-5
    with pytest.raises(Fault, match="one segment"):
        module(ids[:, :1], segments=ids[:, :1], cache=out.cache)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 3), st.booleans())
def test_rows_joined_and_taken_out_in_any_order_go_on_as_alone(order: list[int], out: int, ready: bool) -> None:
    module = made()
    asked = module.generation() if ready else module
    lengths = [3, 9, 1, 5]
    with torch.inference_mode():
        prompts = [tokens(1, size, seed=size) for size in lengths]
        alone = [asked(prompt, asks={"next_logits"}).cache for prompt in prompts]
        assert all(isinstance(one, RowCache) for one in alone)
        cache = alone[order[0]]
        for number in order[1:]:
            cache = cache.join(alone[number])
        kept = [place for place in reversed(range(4)) if place != out]
        cache, running = cache.select(kept), [order[place] for place in kept]
        texts = {number: prompts[number] for number in running}
        for step in range(3):
            new = tokens(len(running), 1, seed=50 + step)
            answer = asked(new, asks={"next_logits"}, cache=cache)
            cache = answer.cache
            for place, number in enumerate(running):
                texts[number] = torch.cat((texts[number], new[place : place + 1]), 1)
                expected = module(texts[number], asks={"next_logits"}).next_logits[0]
                assert (answer.next_logits[place] - expected).abs().max() < 1e-5


def test_under_autocast_the_recurrence_stays_float32() -> None:
    module, ids = made(), tokens(2, 16)
    exact = module(ids, targets=ids, asks={"logprob"}).logprob
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(ids, targets=ids, asks={"logprob", "next_logits"})
    assert out.cache.cells.dtype == torch.float32
    assert (out.logprob - exact).abs().mean() < 0.02 * exact.abs().mean()


def test_parameters_their_roles_and_the_tie() -> None:
    part = Lstm(LstmConfig(layers=3, hidden=8, tied=True))
    module = part.build(V)
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
    assert sum(one.numel() for one in module.parameters()) == V * 8 + 3 * 4 * (2 * 8 * 8 + 8)
    assert module.to_empty(device="cpu").lm_head.weight is module.embed_tokens.weight
    roles = {name: part.role(name) for name, _ in module.named_parameters()}
    assert roles["embed_tokens.weight"].role is Role.EMBEDDING
    assert roles["layers.2.forget_gate.bias"].role is Role.BIAS
    assert roles["layers.2.output_gate.state_weight"].layer == 2
    assert {one.role for one in roles.values()} == {Role.EMBEDDING, Role.OTHER, Role.BIAS}
    assert part.spec() is None
    assert LstmConfig().spec() is None
    assert "decoder_spec" not in LstmConfig().provides()


def test_settings_that_cannot_be() -> None:
    assert len(list(LstmConfig(layers=0, hidden=-1, context=0).check())) == 3
    recipe: Any = SimpleNamespace(stage=lambda name: SimpleNamespace(config=SimpleNamespace(seq_len=300)))
    (problem,) = LstmConfig().check_recipe(recipe, "pretrain")
    assert problem.fact == "pretrain.seq_len=300"
    assert "256" in problem.cause
    assert list(LstmConfig(context=300).check_recipe(recipe, "pretrain")) == []
    assert LstmConfig.from_hub({"model_type": "llama"}) is None


def test_it_learns_what_an_lstm_learns() -> None:
    """To remember the first token of a sequence until its end: a state that is reset by mistake cannot."""
    part = Lstm(LstmConfig(layers=1, hidden=16))
    torch.manual_seed(0)
    module = part.build(8, "cpu")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.zero_() if part.role(name).role is Role.BIAS else parameter.normal_(0.0, 0.3)
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    for _ in range(120):
        ids = torch.randint(0, 8, (32, 10))
        goal = torch.full_like(ids, -1)
        goal[:, -1] = ids[:, 0]
        loss = -module(ids, targets=goal, asks={"logprob"}).logprob.sum() / 32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5  # guessing costs log 8 = 2.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_hidden_layers": "x"}, {"hidden_size": True}, {"hidden_size": 1.5}, {"hidden_size": 10**12},
        {"max_position_embeddings": None}, {"tie_word_embeddings": "x"}, {"forget_bias": float("nan")},
        {"vocab_size": -1},
    ],
)  # fmt: skip
def test_a_config_that_is_damaged_is_told(wrong):
    good = Lstm(LstmConfig(layers=1, hidden=8, context=16)).hub_config(20)
    assert LstmConfig.from_hub(good) == LstmConfig(layers=1, hidden=8, context=16)
    with pytest.raises(UserError, match=f"config.json sets {next(iter(wrong))} to"):
        LstmConfig.from_hub(good | wrong)
