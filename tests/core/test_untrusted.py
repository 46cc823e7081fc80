"""A recipe from a stranger cannot run code, read the environment, or write outside of the run and the store.

Each attack in ``recipe_doors_*.py`` is carried out for real: composed, read, and started with ``lmgraft run
--multirun``. First its effects are looked for, and only then that it was refused for the right reason.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from lmgraft import compose  # noqa: E402
from lmgraft.errors import UserError  # noqa: E402
from lmgraft.recipe import read  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from recipe_doors import SECRET, Door, recipe  # noqa: E402
from recipe_doors_config import CONFIG_DOORS  # noqa: E402
from recipe_doors_text import TEXT_DOORS  # noqa: E402
from recipe_scene import Scene, make_scene  # noqa: E402

DOORS = [*CONFIG_DOORS, *TEXT_DOORS]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Scene:
    return make_scene(tmp_path, monkeypatch, capsys)


def composed(file: str, overrides: Sequence[str]) -> tuple[list[str], str]:
    """(harms that show in the config, what was refused)."""
    ref = compose.resolve(file)
    try:
        cfg = compose.compose(ref, overrides, multirun=True)
    except UserError as error:
        return [], str(error)
    harms = [f"hydra.{key} was set" for key in hydra_changes(cfg.hydra)]
    try:
        typed = read(cfg, ref.name)
    except UserError as error:
        return harms, str(error)
    shown = json.dumps(typed.resolved, default=str)
    harms += [f"{name} was set" for name, place in (("run", typed.run_dir), ("store", typed.store_dir)) if place]
    harms += [f"stage {stage.name}" for stage in typed.stages if "/" in stage.name]
    harms += ["the secret is in the manifest"] if SECRET in shown else []
    harms += ["the working directory is in the manifest"] if f'"text": "{Path.cwd()}' in shown else []
    return harms, ""


def hydra_changes(node: Any) -> Iterator[str]:
    """Keys of Hydra's node that differ from those of a recipe without one, but for harmless sweep parameters."""
    plain = OmegaConf.to_container(node, resolve=False)
    harmless = ("runtime", "overrides", "job.name", "job.config_name", "job.override_dirname", "sweeper.params")
    for key, value in flat(plain):
        if not key.startswith(harmless) and BASELINE.get(key, "absent") != value:
            yield f"{key}={value}"
    for key in (plain["sweeper"].get("params") or {}) if isinstance(plain["sweeper"], dict) else ():
        if key != "corpus.shard_bytes":
            yield f"sweeper.params.{key}"


def flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


BASELINE: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def baseline(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("plain") / "recipe.yaml"
    file.write_text(recipe().replace("@DOCS@", "/"))
    cfg = compose.compose(compose.resolve(str(file)), [], multirun=True)
    BASELINE.update(flat(OmegaConf.to_container(cfg.hydra, resolve=False)))


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_door_is_closed(door: Door, scene: Scene) -> None:
    file = scene.write(door)
    harms, refused = composed(file, door.overrides)
    code, said = scene.run("run", file, *door.overrides, "--multirun", "corpus.validation_bytes=0,1")
    harms += [*scene.harm(), *(["the secret was printed"] if SECRET in said else [])]
    assert not harms
    assert door.why in refused
    assert code == 2
    assert "Traceback" not in said
    assert door.why in said


def test_doors_have_names_of_their_own() -> None:
    assert len({door.name for door in DOORS}) == len(DOORS)
