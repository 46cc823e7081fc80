"""The base of every suite: how a part is named, composed, built and exercised, whatever its seam."""

from __future__ import annotations

import difflib
import inspect
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lmgraft import table
from lmgraft.component import ComponentConfig
from lmgraft.errors import Problem, UserError
from lmgraft.registry import Installed, build, registry
from lmgraft.table import Row
from lmgraft.testing.composing import compose_part
from lmgraft.testing.outcome import Nonconforming, NotApplicable

__all__ = ["Suite"]


class Suite:
    """Holds one part to its seam's contract. A suite of your own is a class in a module that your wheel carries::

        from lmgraft.testing import FilterSuite

        class TestShouting(FilterSuite):
            component = "shouting"
            settings = {"share": 0.3}

    pytest collects it; ``lmgraft plugins check DISTRIBUTION`` runs it from the installed wheel where the entry-point
    group ``lmgraft.testing`` names the module. Every ``test_*`` method is a check and takes nothing but ``self``.
    """

    seam: ClassVar[str] = ""
    component: ClassVar[str] = ""
    """The part's name, as recipes and the entry point have it."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Values beside the defaults: sizes that a laptop checks in seconds, and what has no default."""

    folder: Path
    """An empty folder for one check, removed afterwards."""

    # pytest calls these two around every check, and so does `lmgraft plugins check`.

    def setup_method(self, method: Any = None) -> None:
        if not self.component:
            name = type(self).__name__
            remedy = f'component = "NAME" in {name}, spelt so'
            raise Nonconforming(f"{name} names no part", "its attribute `component` is empty", remedy)
        misspelt = self._misspelt()
        if misspelt:
            name, meant = misspelt
            kind = type(self).__name__
            raise Nonconforming(f"{kind}.{name} means nothing", "no suite has it", f"did you mean {meant}?")
        self.folder = Path(tempfile.mkdtemp(prefix="lmgraft-check-")).resolve()

    def _misspelt(self) -> tuple[str, str] | None:
        """A class attribute of the author's that is nearly, and not quite, one of the kit's."""
        kit = [kind for kind in type(self).__mro__ if kind.__module__.startswith("lmgraft.testing.")]
        known = {name for kind in kit for name in (*vars(kind), *inspect.get_annotations(kind))}
        for kind in type(self).__mro__[: -len(kit) - 1]:
            for name in vars(kind):
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
                if not name.startswith(("_", "test_")) and name not in known and close:
                    return name, close[0]
        return None

    def teardown_method(self, method: Any = None) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what a seam's suite, or an author, may override ----------------------------------------------------------

    def prepare(self) -> Mapping[str, Any]:
        """Settings that need files: writes them below :attr:`folder` and returns what points there."""
        return {}

    def behaviour(self, part: Any) -> Any:
        """Exercises the part on the kit's inputs and returns what came out, comparable with ``==``: nested lists,
        mappings, text, bytes, numbers. Scratch goes below :attr:`folder`."""
        raise NotApplicable("this suite exercises no part")

    def differing(self, first: Any, second: Any) -> str:
        """Where two behaviours differ, empty where they do not. Exact; a suite may allow for rounding."""
        from lmgraft.testing.difference import difference

        return difference(first, second)

    # --- the part ---------------------------------------------------------------------------------------------------

    @property
    def row(self) -> Row:
        """What metadata says of the part."""
        rows = table.select(self.seam, self.component)
        if not rows:
            names = [row.name for row in table.rows() if row.seam == self.seam]
            raise Nonconforming(
                f"there is no {self.seam} named {self.component!r} in this environment",
                f"installed: {', '.join(names) or 'none'}",
                f'name it in [project.entry-points."lmgraft.{self.seam}"] of pyproject.toml and install the package '
                f"again (entry points are written at install time), or mend `component` in {type(self).__name__}",
            )
        return rows[0]

    @property
    def installed(self) -> Installed:
        """The part and where it comes from; raises :class:`Nonconforming` where the registry refuses it."""
        self.row  # noqa: B018  # says more than the registry where there is none
        try:
            return registry().get(self.seam, self.component)
        except UserError as error:
            raise _as_nonconforming(error) from error

    def compose(self, **more: Any) -> ComponentConfig:
        """The part's typed settings: defaults, the suite's, then ``more``; composed by Hydra and checked."""
        values = {**self.settings, **self.prepare(), **more}
        return compose_part(self.seam, self.component, values, self.folder)

    def build(self, **more: Any) -> Any:
        """The part, built as a run builds it."""
        try:
            return build(self.installed.component, self.compose(**more))
        except UserError as error:
            raise _as_nonconforming(error) from error

    # --- words ------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return f"{self.seam} {self.component}"

    def require(self, condition: bool, fact: str, cause: str, remedy: str) -> None:
        """Fails the check in three lines unless ``condition`` holds."""
        if not condition:
            raise Nonconforming(fact, cause, remedy)

    def require_equal(self, first: Any, second: Any, fact: str, remedy: str) -> None:
        """Fails where two behaviours differ; the cause names the first place at which they do."""
        found = self.differing(first, second)
        self.require(not found, fact, found, remedy)


def _as_nonconforming(error: UserError) -> Nonconforming:
    first: Problem = error.problems[0]
    return Nonconforming(first.fact, first.cause, first.remedy)


def disturb_random_numbers(number: int) -> None:
    """Sets the generators that libraries share: a part that draws from one of them behaves differently each time."""
    random.seed(number)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(number)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(number)
