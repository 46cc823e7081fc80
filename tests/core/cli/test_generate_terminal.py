"""``lmgraft generate`` on a terminal: what a stranger's model says is shown and not obeyed; a pipe gets it as it is."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from lmgraft.testing.models import write_llama

ACTING = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def test_what_a_model_says_acts_on_no_terminal(tmp_path: Path) -> None:
    write_llama(tmp_path / "model", layers=1)  # its 256 bytes are about equally likely: many are control characters
    command = [sys.executable, "-m", "lmgraft", "generate", "model", "a", "--max-new-tokens", "40", "--no-chat"]
    piped = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout.decode()
    terminal, end = pty.openpty()
    try:
        subprocess.run(command, cwd=tmp_path, stdout=end, stderr=subprocess.PIPE, check=True)
        shown = os.read(terminal, 1 << 16).decode()
    finally:
        os.close(end)
        os.close(terminal)
    assert ACTING.search(piped)
    assert not ACTING.search(shown)
    assert shown.count("<U+") >= len(ACTING.findall(piped))
