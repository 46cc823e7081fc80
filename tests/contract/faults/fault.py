"""How a planted fault is written down: one source text, the slip in it, and the check that must see the slip.

Every fault has a *sound twin*, the same distribution without the slip. A kit that fails the one and passes the other
fails it for the slip and for nothing else.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

from third_party import Distribution

__all__ = ["Fault", "conformance", "light"]

CAP = "lmgraft>=0.1,<0.2"

_LIGHT = '''\
"""{summary}."""

from __future__ import annotations

from dataclasses import dataclass

from lmgraft.component import {imports}
from lmgraft.hookspecs import hookimpl

{more}
@dataclass
class Config(ComponentConfig):
{fields}


@hookimpl
def lmgraft_{seam}() -> list[Component]:
    return [
        Component(
            name="PACKAGE",
            target="PACKAGE.part:Part",
            config=Config,
            summary="{summary}",{variants}
        )
    ]
'''

#: Of these a light module imports what it uses.
_IMPORTS = ("MISSING", "Component", "ComponentConfig", "execution")
_NEEDS_TEXT = """

def needs(self) -> frozenset[str]:
    return frozenset({"columns:text"})
""".rstrip()

_METHODS = {
    "objective": _NEEDS_TEXT,
    "evaluator": _NEEDS_TEXT,
    "data_source": _NEEDS_TEXT.replace("needs", "provides"),
}

_CONFORMANCE = """\
{imports}
from lmgraft.testing import {suite}


class TestPart({suite}):
    component = "PACKAGE"
{body}"""


def light(seam: str, summary: str, fields: str, *, more: str = "", variants: str = "") -> str:
    """The source of a light module with one component, whose class is ``Part`` in the module ``part``."""
    named = f"\n            variants={variants}," if variants else ""
    body = textwrap.dedent(fields).strip("\n") + _METHODS.get(seam, "")
    body = textwrap.indent(body, "    ")
    imports = ", ".join(name for name in _IMPORTS if name in body or name.startswith("Component"))
    return _LIGHT.format(summary=summary, seam=seam, more=more, fields=body, variants=named, imports=imports)


def conformance(suite: str, body: str = "", *, imports: str = "") -> str:
    """The source of a module with the part's suite."""
    inner = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    return _CONFORMANCE.format(suite=suite, body=inner and f"{inner}\n", imports=textwrap.dedent(imports))


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One mistake. ``PACKAGE`` in paths and texts stands for the package, which has the part's name too."""

    name: str
    """Of the distribution."""
    seam: str
    files: Mapping[str, str]
    """Path within the package -> the sound text."""
    check: str
    """The check that a person would look for; others may fail as well."""
    says: tuple[str, ...]
    """What the three lines hold: what was found, and what to do."""
    slips: tuple[tuple[str, str], ...] = ()
    """(right, wrong): each stands once in the files."""
    leaves_out: str = ""
    """The file that the build forgets."""
    requires: str = CAP
    """What the faulty one's metadata says; the sound one has an upper cap."""
    part: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "part", self.name.replace("-", "_"))

    def planted(self) -> Distribution:
        files = {path: text for path, text in self.files.items() if path != self.leaves_out}
        for right, wrong in self.slips:
            (path,) = (path for path, text in files.items() if right in text)
            assert files[path].count(right) == 1, f"{self.name}: {right!r} stands there more than once"
            files[path] = files[path].replace(right, wrong)
        assert (files, self.requires) != (dict(self.files), CAP), f"{self.name} has no fault"
        return self._distribution(self.name, files, self.requires)

    def sound(self) -> Distribution:
        return self._distribution(f"{self.name}-sound", self.files, CAP)

    def _distribution(self, name: str, files: Mapping[str, str], requires: str) -> Distribution:
        package = name.replace("-", "_")
        contents = {
            f"PACKAGE/{path}".replace("PACKAGE", package): text.replace("PACKAGE", package)
            for path, text in {"__init__.py": "", **files}.items()
        }
        parts = {self.seam: {package: f"{package}.plugin"}}
        if "conformance.py" in files:
            parts["testing"] = {package: f"{package}.conformance"}
        return Distribution(name, contents, parts, requires=[requires])
