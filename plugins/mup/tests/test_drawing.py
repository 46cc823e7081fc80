"""Drawings say what they show, and every point lies where its numbers put it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from lmgraft.errors import UserError
from lmgraft_mup import drawing, transfer

SPACE = "{http://www.w3.org/2000/svg}"
RATES = (1e-3, 2e-3, 4e-3)
SCORES = {
    "normal": {64: (2.6, 2.5, 2.4), 128: (2.3, 2.2, 2.4), 512: (2.0, 2.1, 2.6)},
    "mup": {64: (2.6, 2.5, 2.4), 128: (2.4, 2.3, 2.2), 512: (2.2, 2.0, 2.1)},
}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    jobs = [(name, width, rate, value) for name, widths in SCORES.items() for width, values in widths.items()
            for rate, value in zip(RATES, values, strict=True)]  # fmt: skip
    for number, (name, width, rate, value) in enumerate(jobs):
        folder = tmp_path / "sweep" / str(number)
        folder.mkdir(parents=True)
        data = {
            "scores": [{"stage": "pretrain", "name": "perplexity", "value": 9.0},
                       {"stage": "pretrain", "name": "bits_per_byte", "value": value}],
            "components": [{"stage": "pretrain", "seam": "architecture", "name": "llama"},
                           {"stage": "pretrain", "seam": "initializer", "name": name}],
            "recipe": {"pretrain": {"architecture": {"hidden": width}, "optimizer": {"lr": rate}}},
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(data))
    unfinished = tmp_path / "sweep" / "99"
    unfinished.mkdir()
    (unfinished / "run.json").write_text(json.dumps({"scores": [], "components": [], "recipe": {}}))
    return tmp_path / "sweep"


def test_a_sweep_is_read_from_its_runs(sweep: Path) -> None:
    scores = transfer.read([sweep])
    assert scores["mup"][512] == dict(zip(RATES, (2.2, 2.0, 2.1), strict=True))
    assert transfer.best(scores["normal"]) == {64: 4e-3, 128: 2e-3, 512: 1e-3}
    assert transfer.steps(scores["normal"]) == -2
    assert transfer.steps(scores["mup"]) == -1


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sweep to draw"):
        transfer.read([tmp_path])


def test_the_program_draws_and_tells(sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "transfer.svg"
    command = [sys.executable, "-m", "lmgraft_mup.transfer", str(sweep), str(out)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| 512 | 2.000 | 2.100 | 2.600 | 0.001 |" in said
    assert "from width 64 to 512 the best learning rate moves by -2 steps" in said
    root = ElementTree.fromstring(out.read_text(encoding="utf-8"))
    texts = [element.text for element in root.iter(f"{SPACE}text")]
    assert {"standard", "muP", "width 64", "width 512", "learning rate", "0.004"} <= set(texts)
    assert len(list(root.iter(f"{SPACE}circle"))) == 18
    failed = subprocess.run([*command[:3], str(tmp_path / "none"), str(out)], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 3


def test_points_lie_where_their_numbers_put_them() -> None:
    line = [(64.0, 1.0), (256.0, 10.0), (1024.0, 100.0)]
    root = ElementTree.fromstring(drawing.draw([drawing.Plot("a & b", "x", "y", [("one", line)])]))
    (points,) = (element.get("points") or "" for element in root.iter(f"{SPACE}polyline"))
    (x0, y0), (x1, y1), (x2, y2) = [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+),([\d.]+)", points)]
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y2, "upward is more"
    title = root.find(f"{SPACE}title")
    assert title is not None
    assert title.text == "a & b"


@pytest.mark.parametrize(("low", "high"), [(1.9, 3.3), (0.001, 1000.0), (0.02, 0.5), (2.41, 2.49)])
def test_axes_have_a_few_ticks(low: float, high: float) -> None:
    points = [(1.0, low), (2.0, high)]
    root = ElementTree.fromstring(drawing.draw([drawing.Plot("t", "x", "y", [("one", points)])]))
    assert 2 <= len([line for line in root.iter(f"{SPACE}line") if line.get("class") == "grid"]) <= 9
