"""The suite of the door ``exporter``."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.errors import UserError
from lmgraft.testing.common import PartSuite
from lmgraft.testing.models import BROKEN, contents, unused, write_llama
from lmgraft.testing.outcome import Nonconforming

__all__ = ["ExporterSuite"]

#: Archives keep times to two seconds.
_LATER = 2.1


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
        return contents(self._export(part, self._model()))

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
                part.export(model, out)
            except UserError:
                continue
            except Exception as error:
                fact = f"{self.name} breaks off on a model folder {wrong}"
                ended = f"it raised {type(error).__name__}: {error}"
            self.require(
                False, fact, ended,
                "call lmgraft.artifacts.checkpoint.verify(model) first: it raises a UserError that says what is broken",
            )  # fmt: skip

    # --- how a stage calls an exporter ------------------------------------------------------------------------------

    def _model(self) -> Path:
        folder = unused(self.folder, "model")
        self.write(folder)
        return folder

    def _export(self, part: Any, model: Path) -> Path:
        out = unused(self.folder, "out")
        out.mkdir()
        try:
            part.export(model, out)
        except UserError as error:
            first = error.problems[0]
            remedy = "override write() in the suite where it takes models of another family"
            raise Nonconforming(f"{self.name} refuses the kit's model: {first.fact}", first.cause, remedy) from error
        return out
