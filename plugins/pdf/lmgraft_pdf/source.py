"""Data source ``pdf``: the text of PDF files, as PDFium finds it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from lmgraft.errors import Problem, UserError
from lmgraft.seams.data_source import Damaged, Document, Unit

from lmgraft_pdf.find import find_files
from lmgraft_pdf.plugin import PdfConfig, PdfUnit
from lmgraft_pdf.reader import shared

__all__ = ["Pdf", "joined"]

#: What PDFium puts where a hyphen ends a line, in place of both.
PARTED = "\x02"
_PARTED = re.compile(f"(.?){PARTED}(.?)", re.S)
_REMEDIES = {
    "encrypted": "save it without a password, as in: qpdf --decrypt --password=... OLD NEW",
    "no_text": "recognise its text first, as in: ocrmypdf OLD NEW",
    "too_long": "raise pdf.max_pages or pdf.file_bytes, or let the stage count it: corrupt=quarantine",
    "too_slow": "raise pdf.seconds, or let the stage count it: corrupt=quarantine",
    "too_large": "raise pdf.memory_mb, or let the stage count it: corrupt=quarantine",
}
_OTHER = "mend it, as in: qpdf OLD NEW; or let the stage count it: corrupt=quarantine"


class Pdf:
    """A document a file (its pages with ``separator`` between them) or a page. A unit is a file.

    ``meta`` has ``pages`` (how many the file has), ``title`` where there is one, and ``page`` (from 1) of a page. Text
    is in the order in which the file draws it, line ends are "\\n"; ligatures and odd spaces are left to the filter
    ``unicode``. The file is the group of its pages; one without text gives no document.

    What cannot be read stands as :class:`Damaged`: ``bad_pdf``, ``bad_page`` (the others are read), ``encrypted``,
    ``no_text`` (a scan), ``too_long``, ``too_slow``, ``too_large``, ``crashed``. Not done: text of forms, notes and
    pictures, columns, headers and footers.
    """

    def __init__(self, config: PdfConfig) -> None:
        self.config = config
        self.reader = shared(config.memory_mb)

    def units(self) -> list[Unit]:
        """A file each, sorted by id. Raises UserError where a path has nothing to read."""
        return [Unit(id=name, path=path, size=os.path.getsize(path)) for name, path in find_files(self.config)]

    def read(self, unit: Unit, offset: int) -> Iterator[Document | Damaged]:
        """The file's document, or its pages', after the first ``offset``. Raises UserError where it is out of reach."""
        passed = 0
        for found in self._found(unit):
            if passed >= offset:
                yield found
            else:
                passed += isinstance(found, Document)

    def _found(self, unit: Unit) -> Iterator[Document | Damaged]:
        answer = self._answer(unit.path or "")
        if "error" in answer:
            reason, cause = answer["error"]
            yield _damaged(unit, reason, cause, unit.size)
            return
        texts = [_clean(page, self.config.join_hyphens) for page in answer["pages"]]
        for number, page in enumerate(answer["pages"], 1):
            if page is None:
                yield _damaged(unit, "bad_page", f"PDFium cannot read page {number}", 0)
        if not any(text.strip() for text in texts):
            yield _damaged(unit, "no_text", f"none of its {len(texts)} pages holds text: a scan, or empty", unit.size)
            return
        meta: dict[str, Any] = {"pages": len(texts)}
        if answer["title"]:
            meta["title"] = _unicode(answer["title"])
        if self.config.unit is PdfUnit.file:
            filled = [text for text in texts if text]
            yield Document(id=unit.id, text=self.config.separator.join(filled), group=unit.id, meta=meta)
            return
        for number, text in enumerate(texts, 1):
            if text.strip():
                yield Document(id=f"{unit.id}:{number}", text=text, group=unit.id, meta={**meta, "page": number})

    def _answer(self, path: str) -> dict[str, Any]:
        config = self.config
        try:
            size = os.path.getsize(path)
            with open(path, "rb"):
                pass
        except OSError as error:
            fact, cause = f"pdf: {path} cannot be read", error.strerror or str(error)
            raise UserError(Problem(fact, cause, "check that it exists and who may read it")) from None
        if size > config.file_bytes:
            return {"error": ["too_long", f"it takes {size} bytes, and file_bytes is {config.file_bytes}"]}
        return self.reader.read(path, config.max_pages, config.seconds)


def joined(text: str, join: bool) -> str:
    """Lines that end in a hyphen, as PDFium marks them: joined, or with hyphen and line end."""
    if PARTED not in text:
        return text
    if not join:
        return text.replace(PARTED, "-\n")
    return _PARTED.sub(lambda m: f"{m[1]}{'' if m[1].islower() and m[2].islower() else '-'}{m[2]}", text)


def _clean(page: str | None, join: bool) -> str:
    text = (page or "").replace("\r\n", "\n").replace("\r", "\n")
    return _unicode(joined(text, join))


def _unicode(text: str) -> str:
    """Without halves of surrogate pairs, which a broken font map gives."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _damaged(unit: Unit, reason: str, cause: str, size: int) -> Damaged:
    fact = f"pdf: {unit.id} cannot be read ({reason})"
    return Damaged(reason, Problem(fact, cause, _REMEDIES.get(reason, _OTHER)), size)
