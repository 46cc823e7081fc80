"""How long the commands take that a person types most, beside ``llm`` (a command line with pip-installed plugins).

The pairs ask for the same thing: the list of installed plugins, the help page. Composing and checking a recipe has no
peer with plugins; beside it stands plain Hydra composing a config of the same values, one YAML file and no plugin.

The list is taken once more with fifty distributions of others installed, five of them broken: those that the tests have
(``tests/contract/fifty_distributions.py``), put into a folder by pip.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.measure import Times, alternate, machine, once, peer_python

COMPOSE = (
    "from lmgraft import compose, recipe; r = compose.resolve('quickstart');recipe.read(compose.compose(r, []), r.name)"
)
PLAIN = (
    "import sys; from hydra import compose, initialize_config_dir\n"
    "with initialize_config_dir(sys.argv[1], version_base='1.3'): compose('plain')"
)
TESTS = Path(__file__).resolve().parents[1] / "tests"
FIFTY = "plugins list, 50 distributions more"
HEAVY = ("torch", "datasets", "transformers", "numpy", "pyarrow", "tokenizers")


def run(runs: int) -> tuple[str, dict[str, Any]]:
    ours = Path(sys.executable).parent / "lmgraft"
    peer = peer_python("startup").parent / "llm"
    _same_kind(ours, peer)
    with tempfile.TemporaryDirectory() as folder:
        _plain_copy(Path(folder))
        pairs = {
            "plugins list": ([ours, "plugins", "list"], "llm plugins", [peer, "plugins"]),
            "--help": ([ours, "--help"], "llm --help", [peer, "--help"]),
            "recipes": ([ours, "recipes"], "", []),
            "compose and check quickstart": (
                [sys.executable, "-c", COMPOSE], "plain Hydra", [sys.executable, "-c", PLAIN, folder],
            ),
        }  # fmt: skip
        rows = []
        for name, (mine, label, theirs) in pairs.items():
            times = alternate({"ours": mine, **({"peer": theirs} if theirs else {})}, runs)
            rows.append((name, times["ours"], label, times.get("peer")))
        crowded = _fifty(Path(folder), ours)
        rows.append((FIFTY, alternate({"ours": [ours, "plugins", "list"]}, runs, crowded)["ours"], "", None))
    return _table(rows, runs), _result(rows, _heavy())


def _same_kind(ours: Path, peer: Path) -> None:
    """Both sides answer with the plugins that are installed."""
    mine = once([ours, "plugins", "list", "--json"]).out
    theirs = once([peer, "plugins", "--all"]).out
    if not any(row["name"] == "llama" for row in json.loads(mine)) or not json.loads(theirs):
        raise SystemExit("one side lists no plugin: the comparison would be of unlike work")


def _plain_copy(folder: Path) -> None:
    """The composed quickstart as one plain YAML file: what Hydra alone takes for the same values."""
    code = (
        "import sys; from omegaconf import OmegaConf; from lmgraft import compose; r = compose.resolve('quickstart');"
        "c = compose.compose(r, []); c = OmegaConf.masked_copy(c, [k for k in c if k != 'hydra']);"
        "open(sys.argv[1], 'w').write(OmegaConf.to_yaml(OmegaConf.create(OmegaConf.to_container(c, enum_to_str=True))))"
    )
    once([sys.executable, "-c", code, folder / "plain.yaml"])


def _fifty(folder: Path, ours: Path) -> dict[str, str]:
    """The environment in which fifty more distributions are installed; raises where their states are not right."""
    sys.path[:0] = [str(TESTS), str(TESTS / "contract")]
    from fifty_distributions import FIFTY as DISTRIBUTIONS
    from fifty_distributions import damage, expected
    from third_party import pip_install

    site = folder / "site"
    pip_install([one.wheel(folder) for one in DISTRIBUTIONS], target=site)
    damage(site)
    env = {**os.environ, "PYTHONPATH": str(site), "IMPORTED": str(folder / "imported")}
    rows = json.loads(once([ours, "plugins", "list", "--json"], env).out)
    states = {(row["distribution"], row["seam"], row["name"]): row["state"] for row in rows}
    if not expected().items() <= states.items():
        raise SystemExit("the list of the fifty is wrong: its time would mean nothing")
    if (folder / "imported").exists():
        raise SystemExit("something of the fifty was imported")
    return env


def _heavy() -> dict[str, list[str]]:
    """Which heavy modules each command imports: none, or the figure above is luck."""
    probe = (
        "import sys, atexit; "
        "atexit.register(lambda: print('HEAVY', [m for m in {heavy} if m in sys.modules], file=sys.stderr));"
    )
    found = {}
    for arguments in (["plugins", "list"], ["recipes"], ["--help"]):
        code = probe.format(heavy=HEAVY) + f"from lmgraft.cli import main; main({arguments!r})"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
        found[" ".join(arguments)] = json.loads(said.rpartition("HEAVY ")[2].replace("'", '"'))
    return found


def _table(rows: list[tuple[str, Times, str, Times | None]], runs: int) -> str:
    lines = [
        "| command | ours, s | spread | peak MB | peer | peer, s | ratio (peer/ours) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, ours, label, peer in rows:
        theirs = f"{label} | {peer.median:.3f} | {peer.median / ours.median:.2f}" if peer else " | | "
        lines.append(f"| {name} | {ours.median:.3f} | {ours.spread} | {ours.peak_mb:.0f} | {theirs} |")
    return "\n".join([*lines, "", f"Medians of {runs}, whole processes, in turn. {machine()}."])


def _result(rows: list[tuple[str, Times, str, Times | None]], heavy: dict[str, list[str]]) -> dict[str, Any]:
    listed, peer = rows[0][1], rows[0][3]
    assert peer is not None
    return {
        "name": "startup",
        "equal": True,
        "ours": listed.median,
        "peers": {"llm": peer.median},
        "ratio": peer.median / listed.median,
        "unit": "seconds, lmgraft plugins list",
        "peak_mb": {"ours": listed.peak_mb, "llm": peer.peak_mb},
        "commands": {
            name: {"ours": ours.median, "peer": theirs.median if theirs else None} for name, ours, _, theirs in rows
        },
        "heavy_imports": heavy,
    }
