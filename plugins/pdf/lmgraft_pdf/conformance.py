"""Holds ``pdf`` to the data sources' contract, on files that it writes by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.testing import DataSourceSuite
from lmgraft.testing.inputs import texts

__all__ = ["TestPdf", "TestPdfOfPages", "pdf"]


def pdf(pages: Sequence[str], title: str = "", trailer: str = "") -> bytes:
    """A PDF of these pages, ASCII, in Helvetica; each line of a page is a line of its own."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    objects += ["<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>", f"<< /Title ({_escaped(title)}) >>"]
    kids = []
    for text in pages:
        drawn = " ".join(f"({_escaped(line)}) Tj T*" for line in text.split("\n")) if text else ""
        stream = f"BT /F1 12 Tf 14 TL 72 700 Td {drawn} ET"
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9000 792] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Contents {len(objects) + 2} 0 R >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    return _file(objects, trailer)


class TestPdf(DataSourceSuite):
    """A document a file."""

    component = "pdf"
    most: ClassVar[int] = 8
    """So many texts."""

    def texts_for(self) -> list[str]:
        some = (text for text in texts(40) if text.isascii() and text.isprintable() and "  " not in text)
        return list(some)[: self.most]

    def write(self, folder: Path, texts: Sequence[str]) -> Mapping[str, Any]:
        for number, text in enumerate(texts):
            file = folder / str(number % 2) / f"{number}.pdf"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(pdf([text]))
        return {"path": str(folder)}

    def break_input(self, folder: Path) -> Mapping[str, Any]:
        (folder / "a.pdf").write_bytes(pdf(["whole"]))
        (folder / "cut.pdf").write_bytes(b"%PDF-1.4\n1 0 obj\n<< /Type /Cat")
        return {"path": str(folder)}


class TestPdfOfPages(TestPdf):
    """A document a page."""

    settings: ClassVar[dict[str, Any]] = {"unit": "page"}
    most = 20

    def write(self, folder: Path, texts: Sequence[str]) -> Mapping[str, Any]:
        half = len(texts) // 2
        (folder / "b.pdf").write_bytes(pdf([*texts[:half], ""], "First"))
        (folder / "a.PDF").write_bytes(pdf(texts[half:]))
        return {"path": str(folder)}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def _file(objects: Sequence[str], trailer: str) -> bytes:
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = f"<< /Size {len(objects) + 1} /Root 1 0 R /Info 4 0 R {trailer} >>\nstartxref\n{len(out)}\n%%EOF\n"
    return bytes(out) + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n{end}".encode("latin-1")
