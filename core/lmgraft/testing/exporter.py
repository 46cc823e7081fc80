"""The suite of the door ``exporter``."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.errors import UserError
from lmgraft.seams.exporter import InformedExporter, Known, KnownSource, KnownStage
from lmgraft.testing.common import PartSuite
from lmgraft.testing.models import BROKEN, contents, unused, write_llama
from lmgraft.testing.outcome import Nonconforming, NotApplicable

__all__ = ["ExporterSuite"]

#: Archives keep times to two seconds.
_LATER = 2.1

_SCORE = {
    "stage": "pretrain", "evaluator": "perplexity", "name": "bits_per_byte", "value": 1.25, "unit": "bits/byte",
    "reference": False, "higher_is_better": False, "detail": {"split": "validation"},
}  # fmt: skip
#: All that may be known of a model.
_KNOWN = Known(
    name="a | name",
    license="apache-2.0",
    languages=("en", "no"),
    recipe="quickstart",
    stages=(KnownStage(name="pretrain", kind="train", settings={"steps": 7}, parts={"optimizer": {"name": "adamw"}}),),
    sources=(
        KnownSource(name="web", part="hub", dataset="org/texts", license="CC-BY-4.0"),
        KnownSource(name="own", part="files"),
    ),
    scores=(_SCORE, {**_SCORE, "name": "odd", "value": "NaN", "reference": True, "detail": {}}),
    versions={"torch": "2.9.9"},
)


class ExporterSuite(PartSuite):
    """Holds an exporter to the rules of :mod:`lmgraft.seams.exporter`.

    It is given a small llama-like folder with a tokenizer of bytes; override :meth:`write` for another family.
    """

    seam = "exporter"
    layers: ClassVar[int] = 4
    """Layers of the model folder that the kit writes."""

    def write(self, folder: Path) -> None:
        """Writes the model that is exported."""
        write_llama(folder, layers=self.layers)

    def behaviour(self, part: Any) -> Any:
        return contents(self._export(part, self._model(), _KNOWN))

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_writes_files(self) -> None:
        """something is written, in plain files"""
        out = self._export(self.build(), self._model())
        found = contents(out)
        self.require(
            bool(found),
            f"{self.name} writes nothing",
            "`out` holds no file after export()",
            "write below `out`, which is a folder",
        )
        links = [path.name for path in out.rglob("*") if path.is_symlink()]
        self.require(
            not links,
            f"{self.name} leaves a link, {links[0] if links else ''}",
            "what is exported is carried elsewhere, and the link leads nowhere there",
            "copy the file: shutil.copyfile",
        )

    def test_the_same_bytes_elsewhere_and_later(self) -> None:
        """the same model in another folder, at another time, gives the same bytes"""
        part, model = self.build(), self._model()
        before = contents(self._export(part, model))
        moved = unused(self.folder, "the-same-model-in-a-folder-of-another-name")
        shutil.copytree(model, moved, copy_function=shutil.copyfile)
        time.sleep(_LATER)
        os.utime(moved)  # the copy of a folder has the folder's times
        self.require_equal(
            before,
            contents(self._export(part, moved)),
            f"{self.name} writes other bytes for the same model at another place and time",
            "leave out the clock, the paths and the files' own times: zipfile.ZipInfo(name), gzip's mtime=0, and "
            "names in sorted order",
        )

    def test_input_is_untouched(self) -> None:
        """the model that it reads, and all that lies around `out`, stays as it is"""
        part, model = self.build(), self._model()
        before = contents(self.folder)
        out = self._export(part, model)
        ours = f"{out.relative_to(self.folder).as_posix()}/"
        self.require_equal(
            before,
            {name: digest for name, digest in contents(self.folder).items() if not name.startswith(ours)},
            f"{self.name} changes files that are not below `out`",
            "open the model's files for reading, and write below `out` only, scratch too",
        )

    def test_a_broken_folder_is_refused(self) -> None:
        """a model folder that is not whole is refused with a UserError"""
        part = self.build()
        for wrong, spoil in BROKEN.items():
            model = self._model()
            spoil(model)
            out = unused(self.folder, "out")
            out.mkdir()
            fact, ended = f"{self.name} takes a model folder {wrong}", "it exported it without a word"
            try:
                self._call(part, model, out, Known())
            except UserError:
                continue
            except Exception as error:
                fact = f"{self.name} breaks off on a model folder {wrong}"
                ended = f"it raised {type(error).__name__}: {error}"
            self.require(
                False, fact, ended,
                "call lmgraft.artifacts.checkpoint.verify(model) first: it raises a UserError that says what is broken",
            )  # fmt: skip

    def test_it_asks_for_what_it_tells(self) -> None:
        """the settings name facts that there are, and each one that is asked for shows in the files"""
        part, asks = self.build(), tuple(getattr(self.compose(), "asks", ()))
        names = [spec.name for spec in dataclasses.fields(Known)]
        strange = [name for name in asks if name not in names]
        self.require(
            not strange,
            f"the settings of {self.name} ask for {strange[0] if strange else ''!r}",
            f"what may be known of a model is {', '.join(names)}",
            "asks: ClassVar[tuple[str, ...]] with some of these names",
        )
        self.require(
            not asks or isinstance(part, InformedExporter),
            f"{self.name} asks for {', '.join(asks)} and is told nothing",
            "it has no method export_informed",
            "def export_informed(self, model, out, known, progress), or no `asks` in its settings",
        )
        if not isinstance(part, InformedExporter):
            raise NotApplicable("it has no export_informed")
        model = self._model()
        plain = contents(self._export(part, model, Known()))
        for name in asks:
            told = contents(self._export(part, model, Known(**{name: getattr(_KNOWN, name)})))
            self.require(
                told != plain,
                f"{self.name} asks for {name} and does not tell it",
                "a stage's key holds every fact that is asked for, so it would be made anew for nothing",
                f"write known.{name} somewhere, or take {name!r} out of `asks`",
            )

    def test_nothing_known(self) -> None:
        """without any fact both methods write the same"""
        part, model = self.build(), self._model()
        if not isinstance(part, InformedExporter):
            raise NotApplicable("it has no export_informed")
        out = unused(self.folder, "out")
        out.mkdir()
        part.export(model, out)
        self.require_equal(
            contents(out),
            contents(self._export(part, model, Known())),
            f"{self.name} writes other files where nothing is known",
            "def export(self, model, out): self.export_informed(model, out, Known())",
        )

    def test_progress_reaches_the_end(self) -> None:
        """progress is told as it works, in bytes, up to the sum"""
        part, seen = self.build(), list[tuple[int, int]]()
        if not isinstance(part, InformedExporter):
            raise NotApplicable("it has no export_informed")
        self._export(part, self._model(), Known(), lambda done, total: seen.append((done, total)))
        self.require(
            len(seen) >= self.layers,
            f"{self.name} calls progress {len(seen)} times for a model of {self.layers} layers",
            "the bar stands still, and at each call core asks whether the run is to stop",
            "call progress(bytes done, bytes in all) after each tensor",
        )
        done, totals = [now for now, _ in seen], {total for _, total in seen}
        self.require(
            len(totals) == 1 and done == sorted(done) and done[0] >= 0 and done[-1] == seen[-1][1] > 0,
            f"{self.name} tells a progress that does not end at its end",
            f"the last call says {done[-1]} of {seen[-1][1]} bytes, the largest is {max(done)}",
            "add up the bytes of the tensors that are written; their sum is `bytes in all` from the first call on",
        )

    # --- how a stage calls an exporter ------------------------------------------------------------------------------

    def _model(self) -> Path:
        folder = unused(self.folder, "model")
        self.write(folder)
        return folder

    def _export(
        self, part: Any, model: Path, known: Known = _KNOWN, progress: Callable[[int, int], None] | None = None
    ) -> Path:
        out = unused(self.folder, "out")
        out.mkdir()
        try:
            self._call(part, model, out, known, progress)
        except UserError as error:
            first = error.problems[0]
            remedy = "override write() in the suite where it takes models of another family"
            raise Nonconforming(f"{self.name} refuses the kit's model: {first.fact}", first.cause, remedy) from error
        return out

    def _call(
        self, part: Any, model: Path, out: Path, known: Known, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """As core does: an informed one gets the facts that it asks for."""
        if not isinstance(part, InformedExporter):
            part.export(model, out)
            return
        asks = [name for name in getattr(self.compose(), "asks", ()) if hasattr(known, name)]
        told = Known(**{name: getattr(known, name) for name in asks})
        part.export_informed(model, out, told, *([progress] if progress else []))
