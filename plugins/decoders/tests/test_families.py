"""Every family beside transformers, through the files that transformers writes: logits of all positions, padded left
and right, packed, cached; gradients; the files there and back; what they cost."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.artifacts import checkpoint
from lmgraft.training import products, weights
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from family_cases import CASES, Pair, V, all_logits, folder_of, pair, reference, tokens

Cases = Callable[[str], Pair]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    made: dict[str, Pair] = {}

    def get(name: str) -> Pair:
        if name not in made:
            made[name] = pair(name, tmp_path_factory.mktemp("family"))
        return made[name]

    return get


every = pytest.mark.parametrize("name", list(CASES))


@every
def test_logits_equal_those_of_transformers(name: str, cases: Cases) -> None:
    model, ids = cases(name), tokens(3, 20)
    with torch.no_grad():
        expected = model.theirs(ids).logits
        assert (all_logits(model.ours, ids) - expected).abs().max() < 1e-4
        assert (model.ours(ids, asks={"next_logits"}).next_logits - expected[:, -1]).abs().max() < 1e-4
    assert expected.std() > 0.5  # nothing to be proud of where all are nearly 0


@every
def test_padding_changes_nothing(name: str, cases: Cases) -> None:
    model, ids, length = cases(name), tokens(2, 12), 7
    for at in (slice(12 - length, 12), slice(0, length)):  # at the left, at the right
        there = torch.zeros(2, 12, dtype=torch.long)
        there[0], there[1, at] = 1, 1
        counted = (there.cumsum(1) - 1).clamp_min(0)
        with torch.no_grad():
            # BLOOM counts its positions from the mask.
            given = {} if "bloom" in name else {"position_ids": counted}
            expected = model.theirs(ids, attention_mask=there, **given).logits
            alone = model.theirs(ids[1:, at]).logits
            found = all_logits(model.ours, ids, positions=counted, segments=there - 1)
            last = model.ours(ids, positions=counted, segments=there - 1, asks={"next_logits"}).next_logits
        assert torch.isfinite(found).all()
        assert (found[0] - expected[0]).abs().max() < 1e-4
        assert (found[1, at] - expected[1, at]).abs().max() < 1e-4
        assert (found[1, at] - alone[0]).abs().max() < 1e-4
        assert (last[0] - expected[0, -1]).abs().max() < 1e-4
        if at.stop == 12:
            assert (last[1] - expected[1, -1]).abs().max() < 1e-4


@every
def test_packed_documents_equal_transformers_alone(name: str, cases: Cases) -> None:
    model, lengths, pad = cases(name), [7, 1, 11], 3
    documents = [tokens(1, length, seed=length) for length in lengths]
    row = torch.cat([*documents, torch.zeros(1, pad, dtype=torch.long)], 1)
    segments = torch.cat([torch.full((1, n), i) for n, i in zip([*lengths, pad], [0, 1, 2, -1], strict=True)], 1)
    positions = torch.cat([torch.arange(length) for length in [*lengths, pad]])[None]
    with torch.no_grad():
        alone = torch.cat([model.theirs(ids).logits for ids in documents], 1)
        packed = all_logits(model.ours, row, positions=positions, segments=segments)
    assert torch.isfinite(packed).all()
    assert (packed[:, :-pad] - alone).abs().max() < 1e-4
    together = gradients(model.ours, [(row, {"positions": positions, "segments": segments})])
    apart = gradients(model.ours, [(ids, {}) for ids in documents])
    for key, gradient in together.items():
        assert (gradient - apart[key]).abs().max() < 1e-5, key


def gradients(module: nn.Module, batches: list[tuple[torch.Tensor, dict[str, Any]]]) -> dict[str, torch.Tensor]:
    """Of the mean negative log-probability of every token that has one before it in its document."""
    module.zero_grad()
    for ids, given in batches:
        targets = torch.cat((ids[:, 1:], torch.full((1, 1), -1)), 1)
        segments = given.get("segments", torch.zeros_like(ids))
        ends = torch.cat((segments[:, 1:] != segments[:, :-1], torch.ones(1, 1, dtype=torch.bool)), 1)
        targets = targets.masked_fill(ends | (segments < 0), -1)
        (-module(ids, targets=targets, asks={"logprob"}, **given).logprob.sum() / 16).backward()
    return {key: p.grad.clone() for key, p in module.named_parameters() if p.grad is not None}


@every
def test_gradients_equal_those_of_transformers(name: str, cases: Cases) -> None:
    model, ids = cases(name), tokens(1, 17)
    model.theirs.zero_grad()
    model.theirs(ids, labels=ids).loss.backward()
    # In memory Mixtral's experts lie in one tensor: the layout that is read and not written.
    theirs = {key: parameter.grad for key, parameter in model.theirs.named_parameters()}
    expected = model.architecture.from_hub(theirs)
    found = gradients(model.ours, [(ids, {})])
    assert set(found) == set(expected)
    for key, gradient in found.items():
        assert (gradient - expected[key]).abs().max() < 1e-5, key


@every
@pytest.mark.parametrize("made_for_it", [False, True])
def test_a_cache_changes_nothing(name: str, made_for_it: bool, cases: Cases) -> None:
    """Steps of one token and of more, from the module and from the one that it makes for generation."""
    model, ids, at = cases(name), tokens(2, 24), 5
    module = model.ours.generation() if made_for_it else model.ours  # type: ignore[operator]
    with torch.inference_mode():
        expected = model.theirs(ids).logits
        out = module(ids[:, :at], asks={"next_logits"})
        for size in (1, 1, 6, 1, 9, 1):
            assert (out.next_logits - expected[:, at - 1]).abs().max() < 1e-4
            out = module(ids[:, at : at + size], asks={"next_logits"}, cache=out.cache)
            at += size
        assert (out.next_logits - expected[:, -1]).abs().max() < 1e-4


@every
def test_transformers_files_come_back_byte_for_byte(name: str, cases: Cases, tmp_path: Path) -> None:
    model = cases(name)
    weights.export(tmp_path, weights.canonical(model.ours), model.architecture, V)
    before, after = checkpoint.tensors(model.folder), checkpoint.tensors(tmp_path)
    assert set(before) == set(after)
    for key, tensor in before.items():
        assert tensor.dtype == after[key].dtype
        assert tensor.numpy().tobytes() == after[key].numpy().tobytes(), key
    again = type(model.theirs).from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        assert torch.equal(again(tokens(2, 15)).logits, model.theirs(tokens(2, 15)).logits)


@every
def test_the_settings_come_back_from_both_configs(name: str, cases: Cases) -> None:
    """From transformers' config.json and from ours, which transformers reads to the same."""
    model = cases(name)
    config = model.architecture.config  # type: ignore[attr-defined]
    written = model.architecture.hub_config(V)
    assert type(config).from_hub(written) == dataclasses.replace(config, part="")
    theirs = model.theirs.config
    again = type(theirs)(**written)
    for key, value in CASES[name][1].items():
        assert getattr(again, key) == getattr(theirs, key) == value, key


@every
def test_the_counted_products_are_those_that_torch_does(
    name: str, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The counter knows plain products, neither oneDNN's nor the processor's fused attention.
    monkeypatch.setattr(products, "_faster_here", lambda: False)
    model, ids = cases(name), tokens(2, 16)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model.ours(ids, targets=ids, asks={"logprob"})
    # Forward only, a third of all; torch counts 2 a multiplication with its addition, as the formula does.
    assert counter.get_total_flops() == pytest.approx(model.architecture.flops(16, V) / 3 * ids.numel())


@pytest.mark.parametrize("padded", [False, True])
def test_mixtrals_balance_loss_is_that_of_transformers(padded: bool, cases: Cases) -> None:
    model, ids = cases("mixtral"), tokens(2, 12)
    there = torch.ones(2, 12, dtype=torch.long)
    if padded:
        there[1, 8:] = 0
    expected = model.theirs(ids, attention_mask=there if padded else None, output_router_logits=True).aux_loss
    model.ours.train()
    try:
        out = model.ours(ids, targets=ids, asks={"logprob"}, segments=there - 1 if padded else None)
    finally:
        model.ours.eval()
    weight = model.architecture.spec().expert_balance  # type: ignore[union-attr]
    assert weight == model.theirs.config.router_aux_loss_coef > 0
    assert out.model_losses["expert_balance"].item() == pytest.approx(weight * expected.item(), rel=1e-5)
    assert not model.ours(ids, targets=ids, asks={"logprob"}).model_losses


def test_all_families_are_loaded_without_transformers(tmp_path: Path) -> None:
    """In a process that cannot import it, in the sum of all logits."""
    expected = {}
    for name in CASES:
        theirs = reference(name)
        with torch.no_grad():
            expected[str(folder_of(name, theirs, tmp_path))] = float(theirs(tokens(2, 9)).logits.abs().sum())
    code = (
        "import sys; sys.modules['transformers'] = None; sys.path.insert(0, sys.argv[1])\n"
        "import torch; from pathlib import Path; from family_cases import V, all_logits, tokens\n"
        "from lmgraft.loading import architecture_for; from lmgraft.training import weights\n"
        "for folder in map(Path, sys.argv[2:]):\n"
        "    part = architecture_for(folder); module = weights.materialise(part, V, 'cpu')\n"
        "    weights.load_into(module, part, folder)\n"
        "    print(float(all_logits(module, tokens(2, 9)).abs().sum()))\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), *expected]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [float(line) for line in out.split()] == pytest.approx(list(expected.values()), rel=1e-5)
