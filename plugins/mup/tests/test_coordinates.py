"""The coordinate check on small widths: flat under muP, growing under the standard start."""

from __future__ import annotations

import pytest
import torch
from lmgraft_mup import coordinates
from lmgraft_mup.coordinates import LOGITS, part, slope

WIDTHS = (64, 128, 256)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def slopes(initializer: str, step: int, *, heads: int | None = None, **settings: object) -> dict[str, float]:
    return coordinates.slopes(coordinates.tables(initializer, WIDTHS, heads=heads, **settings)[step], WIDTHS)


def test_activations_stay_under_mup_and_grow_under_the_standard_start() -> None:
    ours, standard = (slopes(name, 4) for name in ("mup", "normal"))
    assert ours.keys() == standard.keys() == {*coordinates.SHOWN, LOGITS}
    assert max(map(abs, ours.values())) < 0.3, ours
    assert min(standard.values()) > 0.5, standard
    assert standard["MLP's output"] > 1.5


def test_wider_heads_need_the_rule_of_attention() -> None:
    """With as many heads at every width the products of queries and keys grow, unless queries shrink."""
    without, with_ = (slopes("mup", 4, heads=2, base_head_dim=base)["queries"] for base in (None, 128))
    assert with_ == pytest.approx(without - 0.5, abs=0.15)


def test_the_first_logits_shrink_unless_the_head_starts_at_zero() -> None:
    assert slopes("mup", 0)[LOGITS] == pytest.approx(-0.5, abs=0.15)
    started = coordinates.tables("mup", WIDTHS, zero_head=True, zero_query=True)
    assert started[0][LOGITS] == [0.0, 0.0, 0.0]
    assert abs(slope(WIDTHS, started[2][LOGITS])) < 0.3


def test_a_slope_is_that_of_logarithms() -> None:
    assert slope((64, 256, 1024), (3.0, 6.0, 12.0)) == pytest.approx(0.5)
    assert slope((64, 256), (3.0, 3.0)) == 0.0


def test_the_base_is_the_standard_start_step_by_step() -> None:
    """At the base's width both train alike, bit for bit."""
    found = []
    for name, settings in (("normal", {}), ("mup", {"base_hidden": 64, "base_head_dim": 32})):
        model = part("architecture", "llama", layers=2, hidden=64, heads=2, kv_heads=2, mlp=128, context=64)
        initializer = part("initializer", name, **settings)
        found.append(coordinates.measure(model, initializer, part("optimizer", "adamw"), coordinates.text()))
    assert found[0] == found[1]
