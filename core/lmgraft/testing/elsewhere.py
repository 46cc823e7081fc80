"""Does something in a process of its own, with another order of hashes: what a worker, or a later run, is to a part."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["Failed", "elsewhere"]

# The result goes through a file: a part may print.
_CODE = """
import pickle, sys
from importlib import import_module
module, name, arguments, out = pickle.load(sys.stdin.buffer)
found = getattr(import_module(module), name)(*arguments)
with open(out, "wb") as file:
    pickle.dump(found, file)
"""


class Failed(RuntimeError):
    """The process ended without a result; the text is its last words."""


def elsewhere(function: str, *arguments: Any, hash_seed: str = "4242") -> Any:
    """What ``"module:function"`` returns in a fresh process. Arguments and result are pickled.

    :raises Failed: it raised, or the process died.
    """
    module, _, name = function.partition(":")
    env = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    with tempfile.TemporaryDirectory(prefix="lmgraft-check-") as folder:
        out = Path(folder) / "found"
        sent = pickle.dumps((module, name, arguments, str(out)))
        done = subprocess.run([sys.executable, "-c", _CODE], input=sent, env=env, capture_output=True)
        if done.returncode or not out.is_file():
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise Failed(said[-1] if said else f"exit code {done.returncode}")
        return pickle.loads(out.read_bytes())  # written by this very call
