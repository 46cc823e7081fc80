"""What a person sees while a run is at work: one line a stage, a progress bar below, a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from lmgraft.printable import printable
from lmgraft.seams.stage import Progress

__all__ = ["Bar", "Console", "duration"]

#: Seconds between lines where there is no terminal to draw a bar on.
QUIET_EVERY = 10.0
#: Seconds over which the speed is taken for the time that is left: parts of a corpus may take a minute each.
SPEED_OVER = 600.0


class Bar:
    """A progress bar; where there is no terminal, a line every ten seconds."""

    def __init__(self, console: Console, title: str, total: float | None, unit: str) -> None:
        self._console, self._title, self._unit = console, title, unit
        self._total, self._done, self._started = total, 0.0, time.monotonic()
        self._said = self._started
        self._first: tuple[float, float] | None = None
        """When the first advance came, and how far it led: what an earlier run had done says nothing of the speed."""
        self._shown: dict[str, Any] = {}
        self._live = console.live_bar(title, total, unit)

    def advance(self, amount: float = 1, **shown: Any) -> None:
        self._done += amount
        if self._first is None:
            self._first = time.monotonic(), self._done
        self._shown.update(shown)
        text = "  ".join(f"{key} {_short(value)}" for key, value in self._shown.items())
        if self._live is not None:
            progress, task = self._live
            progress.update(task, advance=amount, shown=text)
        elif time.monotonic() - self._said > QUIET_EVERY:
            self._said = time.monotonic()
            self._console.line(f"  {self._title}: {self._share()}  {text}")

    def total(self, total: float) -> None:
        self._total = total
        if self._live is not None:
            self._live[0].update(self._live[1], total=total)

    def _share(self) -> str:
        if not self._total or not self._done:
            return f"{_short(self._done)} {self._unit}"
        since, before = self._first or (self._started, 0.0)
        if self._done <= before:
            since, before = self._started, 0.0
        left = (time.monotonic() - since) * (self._total - self._done) / (self._done - before)
        return f"{100 * self._done / self._total:.0f}% ({duration(max(left, 0))} left)"

    def close(self) -> None:
        if self._live is not None:
            self._console.end_bar(self._live[0])


class Console:
    """Writes to stderr, so that what a command prints as its result can be piped."""

    def __init__(self, *, quiet: bool = False, file: IO[str] | None = None) -> None:
        self.quiet = quiet
        self.file = file or sys.stderr
        self.terminal = bool(getattr(self.file, "isatty", lambda: False)())
        self._drawn: list[Any] = []
        """Bars on the terminal now, the last one at the bottom."""

    def line(self, text: str = "") -> None:
        if self.quiet:
            return
        if self._drawn:  # above the bar, which a plain print would run into
            self._drawn[-1].console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self.file, flush=True)

    def live_bar(self, title: str, total: float | None, unit: str) -> tuple[Any, Any] | None:
        if self.quiet or not self.terminal:
            return None
        from rich import progress
        from rich.console import Console as RichConsole

        amount: progress.ProgressColumn = progress.DownloadColumn() if unit == "B" else progress.MofNCompleteColumn()
        bars = progress.Progress(
            progress.TextColumn("  {task.description}"),
            progress.BarColumn(bar_width=24),
            progress.TaskProgressColumn(),
            amount,
            progress.TextColumn("{task.fields[shown]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(compact=True),
            console=RichConsole(file=self.file),
            transient=True,
            speed_estimate_period=SPEED_OVER,
        )
        bars.start()
        self._drawn.append(bars)
        return bars, bars.add_task(title, total=total, shown="")

    def end_bar(self, bars: Any) -> None:
        bars.stop()
        self._drawn.remove(bars)

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Progress]:
        bar = Bar(self, title, total, unit)
        try:
            yield bar
        finally:
            bar.close()

    def table(
        self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()
    ) -> None:
        """A plain table on stdout, under its title: it is a result."""
        from rich import box
        from rich.console import Console as RichConsole
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for index, name in enumerate(header):
            table.add_column(_escape(name), justify="right" if index in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_escape(cell) for cell in row))
        console = RichConsole()
        # A pipe has no width of its own; wide enough that nothing is folded there.
        if not console.is_terminal:
            console = RichConsole(width=160)
        # Not the table's own title: that is folded to the width of the columns.
        console.print(printable(title), style="bold", markup=False, highlight=False, soft_wrap=True)
        console.print(table)


def _escape(cell: str) -> str:
    from rich.markup import escape

    return escape(printable(cell))


def duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
