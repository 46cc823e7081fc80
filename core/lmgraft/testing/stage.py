"""The suite of the door ``stage``."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig, OmegaConf

from lmgraft import api, compose
from lmgraft import recipe as recipes
from lmgraft.artifacts import Artifact
from lmgraft.component import ComponentConfig, StageConfig
from lmgraft.errors import Problem, Stopped, UserError
from lmgraft.recipe import Recipe, StageNode
from lmgraft.testing._stage_work import Scene, context_of, shared_store
from lmgraft.testing.common import PartSuite
from lmgraft.testing.elsewhere import Failed, elsewhere
from lmgraft.testing.models import contents, unused
from lmgraft.testing.outcome import Nonconforming, NotApplicable
from lmgraft.testing.scenes import Unmade, scene, write_rows, write_texts

__all__ = ["StageSuite"]

#: Clocks are written in seconds.
_LATER = 1.1


class StageSuite(PartSuite):
    """Holds a kind of stage to the rules of :mod:`lmgraft.seams.stage`.

    The kit composes a recipe around it: core's own stages make a small corpus, tokenizer, tokens or model for it to
    read. ``parts`` names the parts of its slots, ``rows`` says what its corpus holds; :meth:`recipe` may be overridden.
    """

    seam = "stage"
    parts: ClassVar[Mapping[str, Any]] = {}
    """Slot -> a part's name, or a list of names where the slot takes many; the kit fills in the parts of lmgraft's."""
    rows: ClassVar[str] = ""
    """Empty: its corpus holds text. ``messages``: chats. ``pairs``: preferences."""
    _uncompared: frozenset[str] = frozenset()
    rounding: ClassVar[tuple[str, ...]] = ()
    """Settings declared ``execution`` that change the order in which floating-point numbers are added: what comes out
    then differs in rounding, and is not compared."""

    def recipe(self) -> str:
        """YAML of a recipe with one stage of this kind, after those that it reads. :meth:`texts` may be its source."""
        self.texts()
        if self.rows:
            write_rows(self.folder / "rows.jsonl", self.rows)
        config = self.installed.component.config
        assert issubclass(config, StageConfig)
        try:
            made = scene(self.component, config, self.parts, self.rows, self.folder)
        except Unmade as unmade:
            remedy = "override recipe() in the suite with a small recipe, or name parts: parts = {'SLOT': 'PART'}"
            raise Nonconforming(f"the kit has no recipe for {self.name}", str(unmade), remedy) from unmade
        return OmegaConf.to_yaml(OmegaConf.create(made))

    def texts(self) -> Path:
        """A folder of text files."""
        folder = self.folder / "texts"
        return folder if folder.is_dir() else write_texts(folder)

    # --- composing, building, running ----------------------------------------------------------------------------

    def compose(self, **more: Any) -> ComponentConfig:
        """The stage's settings in the recipe."""
        if self._uncompared & set(more):
            raise UserError(Problem("the setting is not compared", "the suite says so: rounding", "nothing"))
        _, stage = self._read(**more)
        return stage.config

    def behaviour(self, part: Any) -> Any:
        return contents(self._run(part))

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_defaults_compose(self) -> None:
        """the recipe around the stage composes, with the stage's settings"""
        try:
            config = self.compose()
        except UserError as error:
            raise _nonconforming(error.problems[0]) from error
        assert isinstance(config, StageConfig)
        self.require(
            config.kind == self.component,
            f"the settings of {self.name} do not know their kind",
            f"`kind` is {config.kind!r}",
            "derive them from StageConfig and leave its fields alone",
        )

    def test_artifact_is_named(self) -> None:
        """the class and its settings name the same kind of artifact"""
        config = self.installed.component.config
        told, made = getattr(config, "artifact", ""), getattr(self.build(), "artifact", "")
        self.require(
            bool(told) and told == made,
            f"{self.name} makes {made!r} and its settings say {told!r}",
            "the settings decide what may read it, and the class is asked when it is written",
            f"artifact: ClassVar[str] = {(told or made or 'NAME')!r} in {config.__name__}, and the same in the class",
        )

    def test_identity_is_plain(self) -> None:
        """what it adds to the key is plain data, the same each time and in every process"""
        found = self._scene()
        told = [self._identity(self.build(), found) for _ in range(2)]
        remedy = "numbers, texts, and lists or dictionaries of them, in an order of their own: sorted(names), no set"
        try:
            text = json.dumps(told[0], sort_keys=True)
        except (TypeError, ValueError) as error:
            self.require(False, f"the identity of {self.name} is no plain data", str(error), remedy)
        self.require_equal(told[0], told[1], f"{self.name} tells two identities for the same work", remedy)
        try:
            there = elsewhere("lmgraft.testing._stage_work:identity_text", found)
        except Failed as failed:
            self.require(
                False, f"{self.name} fails in another process", str(failed), "build it from its settings alone"
            )
        self.require_equal(text, there, f"{self.name} tells another identity in another process", remedy)

    def test_runs_in_a_recipe(self) -> None:
        """a run makes its artifact, a second run finds it in the store"""
        self.require(
            bool(self.behaviour(self.build())),
            f"{self.name} makes an empty artifact",
            "there is no file below context.out after run()",
            "write to context.out",
        )
        first, again = (self._recipe_run(self.folder / "store", f"run-{number}") for number in (1, 2))
        self.require(
            (first["status"], again["status"]) == ("ran", "reused"),
            f"{self.name} is {again['status']} where nothing has changed",
            f"its key was {first['key'][:12]} and then {again['key'][:12]}",
            "identity() and the settings must be equal for equal work: no clock, no path, no random number",
        )

    def test_the_same_bytes_in_another_store(self) -> None:
        """another store, another run directory and another second give the same artifact"""
        first = self._recipe_run(self.folder / "store", "run")
        time.sleep(_LATER)
        place = self.folder / "another" / "place-with-a-longer-name"
        again = self._recipe_run(place / "store", "another/run")
        self.require_equal(
            contents(Path(first["path"])),
            contents(Path(again["path"])),
            f"{self.name} makes other bytes in another store and at another time",
            "leave clock, paths, host and process out of the artifact, and write names in sorted order",
        )

    def test_killed_it_goes_on(self) -> None:
        """killed at any point and called again with the same `work`, it ends with the same bytes"""
        if sys.platform != "linux":
            raise NotApplicable("it is killed in forked processes, on Linux only")
        found, here = self._scene(), self.behaviour(self.build())
        try:
            whole, broken = elsewhere("lmgraft.testing._stage_work:attempts", found, unused(self.folder, "kills"))
        except Failed as failed:
            self.require(
                False, f"{self.name} fails in another process", str(failed), "build it from its settings alone"
            )
        self.require_equal(
            here,
            whole,
            f"{self.name} makes other bytes in another process",
            "depend on inputs, settings and seed only: not on hash(), an order of a set or what the process did before",
        )
        for point, after in broken.items():
            remedy = "write files under another name and rename them when they are whole; what `work` holds after a "
            remedy += "kill is either used as it would have been made, or made anew"
            self.require(
                isinstance(after, dict), f"{self.name} does not go on after it was killed {point}", f"{after}", remedy
            )
            self.require_equal(whole, after, f"{self.name} makes other bytes after it was killed {point}", remedy)

    def test_nothing_outside_out_and_work(self) -> None:
        """it writes below `out` and `work` only, leaves its inputs alone, and makes plain files"""
        from lmgraft.store import folder_manifest

        part, found = self.build(), self._scene()
        before = contents(self.folder)
        out = self._run(part, found)
        ours = f"{out.parent.relative_to(self.folder).as_posix()}/"
        place = {
            name: digest for name, digest in contents(out.parent).items() if name.split("/")[0] not in ("out", "work")
        }
        after = {name: digest for name, digest in contents(self.folder).items() if not name.startswith(ours)}
        others = [*place, *(name for name in after if before.get(name) != after[name])]
        self.require(
            not others and len(after) == len(before),
            f"{self.name} changes files outside of `out` and `work`: {', '.join(others[:3]) or 'one is gone'}",
            "they are no part of the artifact, and another run that does the same work meets them",
            "scratch belongs below context.work, results below context.out",
        )
        for role, artifacts in found.inputs.items():
            changed = [
                artifact.stage for artifact in artifacts if folder_manifest(artifact.path).digest != artifact.digest
            ]
            self.require(
                not changed,
                f"{self.name} changes its input {role}",
                "artifacts are shared by every run that made the same",
                "read them, and copy what you want to change to context.work",
            )
        links = [path.name for path in out.rglob("*") if path.is_symlink() or not (path.is_file() or path.is_dir())]
        self.require(
            not links,
            f"{self.name} leaves {', '.join(links[:3])} in its artifact",
            "an artifact holds plain files only",
            "copy the file",
        )

    def test_no_path_in_the_artifact(self) -> None:
        """no file of the artifact names the folder in which it was made, or the machine"""
        import socket

        out, host = self._run(self.build()), socket.gethostname()
        words = {str(self.folder): "the folder in which it was made", str(Path.home()): "the user's home"}
        words |= {host: "the machine"} if len(host) > 7 else {}
        for path in sorted(out.rglob("*")):
            held = path.read_bytes() if path.is_file() else b""
            for word, what in words.items():
                self.require(
                    len(word) < 5 or word.encode() not in held,
                    f"{self.name} writes {what} into {path.relative_to(out)}",
                    f"{word} stands there, so the same work has other bytes elsewhere",
                    "name files relative to the artifact, and inputs by their stage or digest",
                )

    def test_summary_is_words(self) -> None:
        """the summary is (name, value) pairs of texts, told by an instance that did not make the artifact"""
        found = self._scene()
        out, teller = self._run(self.build(), found), self.build()
        self._identity(teller, found)
        told = list(teller.summary(Artifact(teller.artifact, out, "0" * 64, found.stage.name)))
        wrong = [pair for pair in told if not _is_pair(pair)]
        self.require(
            not wrong,
            f"the summary of {self.name} tells {wrong[0] if wrong else ''!r}",
            "it is printed as `VALUE NAME` at the end of a stage",
            'yield "documents", f"{count:,}"',
        )

    def test_stops_when_asked(self) -> None:
        """it asks context.alive() as it works, and stops where that raises"""
        found, part = self._scene(), self.build()
        asked = 0

        def stop() -> None:
            nonlocal asked
            asked += 1
            raise Stopped("the kit stops it")

        remedy = "call context.alive() in the loop that takes long, and let what it raises through"
        try:
            self._run(part, found, stop)
        except Stopped:
            return
        cause = "it caught what context.alive() raised" if asked else "it never called context.alive()"
        self.require(False, f"{self.name} does not stop when it is asked to", cause, remedy)

    def test_execution_settings(self) -> None:
        """settings declared `execution` change nothing that comes out, those in `rounding` apart"""
        self._uncompared = frozenset(self.rounding)  # the base leaves out what does not compose
        super().test_execution_settings()

    # --- how core calls a stage -------------------------------------------------------------------------------------

    def _read(self, **more: Any) -> tuple[Recipe, StageNode]:
        """The recipe, with the suite's settings and ``more`` on the last stage of this kind, and that stage."""
        cfg = OmegaConf.create(self.recipe())
        assert isinstance(cfg, DictConfig)
        name = _named(cfg, self.component)
        if name is None:
            remedy = f"- stage@NAME: {self.component} among its defaults, and NAME in its stages"
            raise Nonconforming(f"the recipe of the suite has no stage of kind {self.component}", "recipe()", remedy)
        values = {**self.settings, **self.prepare(), **more}
        cfg[name] = OmegaConf.merge(cfg.get(name) or {}, OmegaConf.create(dict(values)))
        file = self.folder / "recipe.yaml"
        OmegaConf.save(cfg, file)
        ref = compose.resolve(str(file))
        recipe = recipes.read(compose.compose(ref, ()), ref.name)
        return recipe, recipe.stage(name)

    def _scene(self) -> Scene:
        try:
            return Scene.of(*self._read(), self.folder)
        except UserError as error:
            raise _nonconforming(error.problems[0]) from error

    def _identity(self, part: Any, found: Scene) -> dict[str, Any]:
        return dict(part.identity(context_of(found)))

    def _run(self, part: Any, found: Scene | None = None, check: Callable[[], None] | None = None) -> Path:
        """Runs it as the runner does, and gives its ``out``."""
        found = found or self._scene()
        place = unused(self.folder, "stage")
        part.identity(context_of(found))
        try:
            part.run(context_of(found, place, check))
        except UserError as error:
            first = error.problems[0]
            remedy = "override recipe() in the suite, or its parts, rows and settings, so that it has what it needs"
            raise Nonconforming(f"{self.name} refuses its inputs: {first.fact}", first.cause, remedy) from error
        return place / "out"

    def _recipe_run(self, store: Path, run: str) -> dict[str, Any]:
        """A whole run; what run.json says of the stage, with the ``path`` of its artifact."""
        _, stage = self._read()
        self._scene()  # the stages before it are in the shared store now
        if not store.exists():
            store.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(shared_store(self.component), store, symlinks=True)
        overrides = [f"store.dir={store}", f"run.dir={self.folder / run}"]
        try:
            done = api.run(str(self.folder / "recipe.yaml"), overrides, quiet=True)
        except UserError as error:
            raise _nonconforming(error.problems[0]) from error
        return {**done.data["stages"][stage.name], "path": done.artifacts[stage.name]}


def _named(cfg: DictConfig, kind: str) -> str | None:
    """The last stage of this kind, as the defaults list names it."""
    chosen = [(str(key), str(value)) for entry in cfg.get("defaults") or [] if isinstance(entry, DictConfig)
              for key, value in entry.items()]  # fmt: skip
    names = [key.removeprefix("stage@") for key, value in chosen if key.startswith("stage@") and _kind(value) == kind]
    return names[-1] if names else None


def _kind(choice: str) -> str:
    return choice.partition("/")[0]


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(word, str) and word for word in pair)


def _nonconforming(problem: Problem) -> Nonconforming:
    return Nonconforming(problem.fact, problem.cause, problem.remedy)
