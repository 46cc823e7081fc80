"""The checks that hold parts of every seam to what core relies on: packaging, settings, and being built anew."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from lmgraft import table, untrusted
from lmgraft.component import ComponentConfig, is_execution
from lmgraft.errors import UserError
from lmgraft.testing import fresh
from lmgraft.testing.composing import NODE, compose_part
from lmgraft.testing.difference import difference
from lmgraft.testing.outcome import NotApplicable
from lmgraft.testing.protocols import hold_to_protocol
from lmgraft.testing.suite import Suite, disturb_random_numbers
from lmgraft.testing.watching import stray_writes

__all__ = ["PartSuite"]

_EXECUTION_VALUES = (1, 2, 3)


class PartSuite(Suite):
    """What every part is held to. Seams add their own checks."""

    _first: ClassVar[Any]

    # --- packaging --------------------------------------------------------------------------------------------------

    def test_entry_point(self) -> None:
        """the names that entry points promise are those that the hook returns"""
        self.installed  # noqa: B018  # it raises, and says what is wrong
        self.require(
            untrusted.is_group_path(self.component),
            f"no recipe file can name {self.component}",
            "a name holds letters, digits, _ and -, and none of Hydra's words _global_, _group_, _here_, _name_",
            f"rename it, in {self.row.module} and in pyproject.toml, and install the package again",
        )

    def test_light_import(self) -> None:
        """the light module imports nothing heavy, in a process of its own"""
        module = self.row.module
        try:
            found = fresh.light_import(module)
        except RuntimeError as error:
            self.require(False, f"{module} cannot be imported", str(error), f"mend {module}")
        self.require(
            not found.heavy,
            f"the light module {module} imports {', '.join(found.heavy)}",
            "listing, completion and every recipe that names the part wait for it",
            f"import {' and '.join(found.heavy)} in the implementation, {self.installed.component.target}; "
            "under `if TYPE_CHECKING` where only annotations need it",
        )
        self.require(
            not found.printed,
            f"the light module {module} prints {found.printed[:60]!r} as it is imported",
            "what a command prints is its result, and others read it",
            f"take the print out of {module}",
        )
        self.require(
            found.seconds <= fresh.BUDGET,
            f"importing the light module {module} takes {found.seconds:.2f} s of processor time",
            f"{fresh.BUDGET} s are its budget; with it come {', '.join(found.others[:8]) or 'no other packages'}",
            "move imports and work to the implementation module",
        )

    def test_version_cap(self) -> None:
        """the distribution says which versions of lmgraft it was written for, with an upper cap"""
        from packaging.requirements import Requirement

        distribution = self.row.distribution
        if table.canonical(distribution) == "lmgraft":
            raise NotApplicable("a first-party part comes with its lmgraft")
        lines = [line for line in metadata.requires(distribution) or () if _is_lmgraft(line)]
        said = ", ".join(lines) or "no lmgraft at all"
        capped = any(
            spec.operator in ("<", "<=", "==", "~=", "===") for line in lines for spec in Requirement(line).specifier
        )
        self.require(
            capped,
            f"{distribution} has no upper cap on lmgraft",
            f"its dependencies name {said}; pip would mix it with a later lmgraft of another contract",
            f'dependencies = ["lmgraft{_next_cap()}"] in pyproject.toml',
        )

    def test_variants_in_the_wheel(self) -> None:
        """every YAML variant that the component names lies in the installed package and composes, and no other"""
        component, row = self.installed.component, self.row
        place = table.location(row)
        top = row.module.partition(".")[0]
        folder = (place or Path("nowhere")) / "conf" / self.seam / self.component
        there = {file.stem for pattern in ("*.yaml", "*.yml") for file in folder.glob(pattern)}
        inside = f"{top}/conf/{self.seam}/{self.component}"
        missing = next((variant for variant in component.variants if variant not in there), None)
        self.require(
            missing is None,
            f"{row.distribution} promises {inside}/{missing}.yaml, and the installed package lacks it",
            f"the component names {', '.join(component.variants)}; found: {', '.join(sorted(there)) or 'none'}",
            "put the file into the package and the wheel: hatchling takes all files below the package, "
            'setuptools wants [tool.setuptools.package-data] "*" = ["conf/**/*.yaml"]',
        )
        unnamed = sorted(there - set(component.variants))
        self.require(
            not unnamed,
            f"{inside}/{unnamed[0] if unnamed else ''}.yaml is not named by its component",
            "a wheel that loses the file would not be found out",
            f"variants=({', '.join(map(repr, sorted(there)))},) in {row.module}",
        )
        for variant in component.variants:
            try:
                self._variant(variant)
            except UserError as error:
                first = error.problems[0]
                fact = f"the variant {inside}/{variant}.yaml does not compose"
                self.require(False, fact, f"{first.fact}: {first.cause}", first.remedy)

    def _variant(self, variant: str) -> None:
        """As it is, or where settings without a default lack: with the suite's."""
        try:
            compose_part(self.seam, self.component, self.prepare(), self.folder, variant)
        except UserError:
            compose_part(self.seam, self.component, {**self.settings, **self.prepare()}, self.folder, variant)

    # --- settings ---------------------------------------------------------------------------------------------------

    def test_defaults_compose(self) -> None:
        """defaults and the suite's settings compose and pass the part's own check"""
        try:
            config = self.compose()
        except UserError as error:
            first = error.problems[0]
            fact = first.fact.replace(f"{NODE}.{self.component}.", "").replace(f"{NODE}.", "")
            self.require(
                False,
                f"{self.name} with the settings of {type(self).__name__}: {fact.partition(' (')[0]}",
                first.cause,
                first.remedy.replace(f"{NODE}.{self.component}.", "").replace(f"{NODE}.", ""),
            )
        self.require(
            config.part == self.component or self.seam == "stage",
            f"the settings of {self.name} do not know their part's name",
            f"`part` is {config.part!r}",
            "leave the field `part` of ComponentConfig alone",
        )

    def test_unknown_keys_refused(self) -> None:
        """a misspelt key is refused before any work"""
        try:
            self.compose(no_such_setting=1)
        except UserError:
            return
        self.require(
            False,
            f"{self.name} takes a setting that it does not have",
            "no_such_setting=1 was composed without a word",
            f"make its config a plain @dataclass of fields in {self.row.module}",
        )

    def test_config_pickles(self) -> None:
        """the settings travel to other processes"""
        config, kind = self.compose(), self.installed.component.config
        remedy = f"define {kind.__name__} at the top of {self.row.module}, with fields that pickle"
        try:
            back = pickle.loads(pickle.dumps(config))
        except Exception as error:
            self.require(
                False, f"the settings of {self.name} do not pickle", f"{type(error).__name__}: {error}", remedy
            )
        self.require(back == config, f"the settings of {self.name} change when pickled", f"{config} and {back}", remedy)

    def test_follows_the_protocol(self) -> None:
        """the part has its seam's methods, and they take what core gives them"""
        hold_to_protocol(self.seam, self.build(), self.name)

    # --- being built ------------------------------------------------------------------------------------------------

    def test_no_shared_state(self) -> None:
        """one build does not see what another did"""
        first = self._first_behaviour()
        disturb_random_numbers(0)
        second = self.behaviour(self.build())
        self.require_equal(
            first,
            second,
            f"a second build of {self.name} sees what the first one did",
            "keep state in the object: nothing on the class, no module-level collection, no mutable default argument; "
            "workers and ranks build parts of their own",
        )

    def test_equal_builds(self) -> None:
        """two builds from the same settings do the same, whatever the shared random generators hold"""
        self._first_behaviour()  # what builds share is settled by now, and is another check's business
        disturb_random_numbers(1)
        first = self.behaviour(self.build())
        disturb_random_numbers(2)
        second = self.behaviour(self.build())
        self.require_equal(
            first,
            second,
            f"two builds of {self.name} from the same settings behave differently",
            "draw random numbers from a generator of your own, seeded by a setting or by what is asked "
            "(random.Random(seed), torch.Generator), and let no order of a set decide",
        )

    def _first_behaviour(self) -> Any:
        """What the first build in this process did: later ones may see what it left behind."""
        kind = type(self)
        if "_first" not in vars(kind):
            disturb_random_numbers(0)
            kind._first = self.behaviour(self.build())
        return kind._first

    def test_config_unchanged_by_use(self) -> None:
        """using the part leaves its settings alone"""
        config = self.compose()
        before = copy.deepcopy(config)
        self._use(config)
        self.require(
            config == before,
            f"{self.name} changes its own settings when it is used",
            difference(dataclasses.asdict(before), dataclasses.asdict(config)),
            "copy what you change: other parts and the manifest read the same object",
        )

    def test_no_stray_writes(self) -> None:
        """nothing is written but below the folders that the part is given"""
        config = self.compose()
        cwd = self.folder / "working-directory"
        cwd.mkdir()
        with stray_writes(cwd, [self.folder]) as found:
            self._use(config)
        self.require(
            not found,
            f"{self.name} writes {', '.join(found[:3])}",
            "runs share the working directory and the home, and a killed run leaves such files behind",
            "write below the folder that the method is given, or below a setting that names one",
        )

    def test_execution_settings(self) -> None:
        """settings declared `execution` change nothing that comes out"""
        config = self.compose()
        names = [
            spec.name for spec in dataclasses.fields(config) if is_execution(spec) and _is_number(config, spec.name)
        ]
        if not names:
            raise NotApplicable("it has no whole-number execution settings")
        first = self._first_behaviour()
        for name in names:
            values: tuple[Any, ...] = _EXECUTION_VALUES
            if isinstance(getattr(config, name), bool):
                values = (False, True)
            for value in values:
                try:
                    self.compose(**{name: value})
                except UserError:
                    continue  # the part's check does not take this value
                self.require_equal(
                    first,
                    self.behaviour(self.build(**{name: value})),
                    f"{self.name} gives other results with {name}={value} than with {name}={getattr(config, name)}",
                    f"{name} is declared `execution`, so it is not in the key that results are kept under: "
                    "make the result independent of it (sum before you divide), or declare it a plain field",
                )

    def _use(self, config: ComponentConfig) -> None:
        from lmgraft.registry import build

        self.behaviour(build(self.installed.component, config))


def _is_lmgraft(line: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return table.canonical(Requirement(line).name) == "lmgraft"
    except InvalidRequirement:
        return False


def _next_cap() -> str:
    from packaging.version import Version

    from lmgraft.version import installed

    now = Version(installed())
    return f">={now.major}.{now.minor},<{now.major}.{now.minor + 1}"


def _is_number(config: ComponentConfig, name: str) -> bool:
    return isinstance(getattr(config, name), int)
