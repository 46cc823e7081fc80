"""What importing one light module costs, seen in a process that has imported nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

__all__ = ["BUDGET", "HEAVY", "Import", "light_import"]

#: Packages that a light module never needs; ``plugins list`` and composing must not wait for them.
HEAVY = frozenset(
    {
        *("torch", "numpy", "pandas", "scipy", "sklearn", "pyarrow", "datasets", "transformers", "tokenizers", "PIL"),
        *(
            "safetensors",
            "sentencepiece",
            "jax",
            "tensorflow",
            "keras",
            "megatron",
            "transformer_engine",
            "wandb",
            "ray",
        ),
        *("spacy", "nltk", "matplotlib", "requests", "aiohttp", "openai", "huggingface_hub"),
    }
)
#: Seconds of processor time beyond lmgraft's own light modules.
BUDGET = 0.2
ATTEMPTS = 3

_CODE = """
import contextlib, io, json, sys, time
import lmgraft.component, lmgraft.hookspecs, lmgraft.errors
before = set(sys.modules)
start = time.process_time()
with contextlib.redirect_stdout(io.StringIO()) as printed:
    __import__(sys.argv[1])
seconds = time.process_time() - start
new = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
print("\\n" + json.dumps({"seconds": seconds, "new": new, "printed": printed.getvalue()}))
"""


@dataclass(frozen=True, slots=True)
class Import:
    seconds: float
    """Processor time, the least of a few attempts where the first was over budget."""
    heavy: list[str]
    """Packages of :data:`HEAVY` that came along."""
    printed: str
    """What it printed meanwhile."""
    others: list[str]
    """Other top-level packages that came along."""


def light_import(module: str) -> Import:
    """Imports ``module`` in a fresh process. Raises RuntimeError with the last line of its error where that fails."""
    own = module.partition(".")[0]
    best, printed = float("inf"), ""
    new: list[str] = []
    for _ in range(ATTEMPTS):
        seconds, new, printed = _once(module)
        best = min(best, seconds)
        if best <= BUDGET:
            break
    return Import(
        best, sorted(HEAVY & set(new)), printed.strip(), [name for name in new if name not in (own, "lmgraft")]
    )


def _once(module: str) -> tuple[float, list[str], str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", _CODE, module], env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    found = json.loads(done.stdout.strip().splitlines()[-1])  # the module may have printed something before
    return float(found["seconds"]), list(found["new"]), str(found["printed"])
