"""What is said on a terminal, in a log file, and in quiet."""

from __future__ import annotations

import io
import re

import pytest
from lmgraft import console as consoles
from lmgraft.console import Console, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(written: str) -> list[str]:
    """The lines that a terminal ends up with: carriage returns, cursor up and erase line as it obeys them."""
    lines = [""]
    at = 0
    for part in re.split(r"(\r|\n|\x1b\[[0-9;?]*[A-Za-z])", written):
        if part == "\n":
            at += 1
            lines += [""] * (at + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            at -= int(part[2:-1])
        elif part == "\x1b[2K":
            lines[at] = ""
        elif part and part != "\r" and not part.startswith("\x1b"):
            lines[at] += part
    return [line.rstrip() for line in lines]


def test_a_line_while_a_bar_is_drawn_stands_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    console = Console(file=terminal)
    with console.progress("training", 10, "step") as bar:
        bar.advance(5, loss=1.5)
        console.line("  going on [after] step 5")
        bar.advance(1, loss=1.25)
        during = shown(terminal.getvalue())
    console.line("done")
    assert "  going on [after] step 5" in during
    assert [line for line in shown(terminal.getvalue()) if line] == ["  going on [after] step 5", "done"]
    assert "6/10" in terminal.getvalue()
    assert "loss 1.25" in terminal.getvalue()


def test_a_log_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    with Console(file=file).progress("training", 10, "step") as bar:
        bar.advance(5, loss=1.5)
        assert file.getvalue() == ""
        monkeypatch.setattr(consoles, "QUIET_EVERY", -1.0)
        bar.advance(1, loss=1234.5)
    assert re.fullmatch(r"  training: 60% \(\d.\d s left\)  loss 1,234\n", file.getvalue())


def test_what_was_done_before_says_nothing_of_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ninety of a hundred lay there; the two of the last ten that took ten seconds foretell the rest."""
    file = io.StringIO()
    clock = iter([0.0, 0.0, 0.0, 10.0, 10.0, 10.0])
    monkeypatch.setattr(consoles.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(consoles, "QUIET_EVERY", 5.0)
    with Console(file=file).progress("reading", 100, "B") as bar:
        bar.advance(90, documents=9)
        bar.advance(2, documents=10)
    assert file.getvalue() == "  reading: 92% (40 s left)  documents 10\n"


@pytest.mark.parametrize("file", [io.StringIO(), Terminal()])
def test_quiet_says_nothing(file: io.StringIO) -> None:
    console = Console(quiet=True, file=file)
    console.line("a stage")
    with console.progress("training", 10, "step") as bar:
        bar.advance(5)
    assert file.getvalue() == ""


def test_a_table_is_a_result_and_not_folded_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Console(quiet=True).table("In [here] and wide", ("name", "value"), [("a", "b")])
    assert capsys.readouterr().out.splitlines()[0] == "In [here] and wide"
    Console(quiet=True).table("Title", ("name", "value"), [("[red]" + "x" * 100, "1.5")], right=(1,))
    out = capsys.readouterr().out
    assert "[red]" + "x" * 100 in out
    assert "1.5" in out


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (119, "119 s"), (600, "10 min 0 s"), (7260, "2 h 1 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
