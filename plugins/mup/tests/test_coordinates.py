"""The coordinate check on small widths: flat under muP, growing under the standard start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lmgraft.registry import build, registry
from lmgraft_mup import coordinates
from lmgraft_mup.coordinates import LOGITS, slope

WIDTHS = (64, 128, 256)
#: Bytes of this file.
TEXT = torch.frombuffer(bytearray(Path(__file__).read_bytes()[:512]), dtype=torch.uint8).long().view(8, 64)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def part(seam: str, name: str, **settings: Any) -> Any:
    component = registry().get(seam, name).component
    return build(component, component.config(part=name, **settings))


def parts(width: int, heads: int, initializer: str, **settings: Any) -> tuple[Any, Any, Any]:
    sizes = {"layers": 2, "hidden": width, "heads": heads, "kv_heads": heads, "mlp": 2 * width, "context": 64}
    return (
        part("architecture", "llama", **sizes),
        part("initializer", initializer, **settings),
        part("optimizer", "adamw", lr=4e-3),
    )


def tables(initializer: str, *, heads: int | None = None, **settings: Any) -> list[dict[str, list[float]]]:
    """``heads`` None: heads are 32 wide, and there are more of them."""
    return coordinates.tables(lambda width: parts(width, heads or width // 32, initializer, **settings), WIDTHS, TEXT)


def slopes(initializer: str, step: int, *, heads: int | None = None, **settings: Any) -> dict[str, float]:
    return coordinates.slopes(tables(initializer, heads=heads, **settings)[step], WIDTHS)


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
    started = tables("mup", zero_head=True, zero_query=True)
    assert started[0][LOGITS] == [0.0, 0.0, 0.0]
    assert abs(slope(WIDTHS, started[2][LOGITS])) < 0.3


def test_a_slope_is_that_of_logarithms() -> None:
    assert slope((64, 256, 1024), (3.0, 6.0, 12.0)) == pytest.approx(0.5)
    assert slope((64, 256), (3.0, 3.0)) == 0.0


def test_the_base_is_the_standard_start_step_by_step() -> None:
    """At the base's width both train alike, bit for bit."""
    found = []
    for name, settings in (("normal", {}), ("mup", {"base_hidden": 64, "base_head_dim": 32})):
        found.append(coordinates.measure(*parts(64, 2, name, **settings), TEXT))
    assert found[0] == found[1]
