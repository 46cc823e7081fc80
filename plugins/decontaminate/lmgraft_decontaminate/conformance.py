"""Holds ``decontaminate`` to the filters' contract: dropping, cutting, and with a limit on common phrases."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.seams.data_source import Document
from lmgraft.testing import FilterSuite

__all__ = ["TestDecontaminate", "TestDecontaminateCuts", "TestDecontaminateRarePhrases"]

#: 17 words, and 9 that are matched whole.
LONG = "Natalia sold 48 clips in April, and then she sold half as many of them in May."
SHORT = "Why are the seasons of Mars longer than ours?"
COMMON = "all rights reserved no part of this page may be reproduced without the publisher's leave"


class TestDecontaminate(FilterSuite):
    """Row-wise; two sets."""

    component = "decontaminate"

    def prepare(self) -> Mapping[str, Any]:
        for name, texts in (("sums", [LONG, COMMON]), ("facts", [SHORT])):
            rows = (json.dumps({"question": text, "choices": ["a", "b"]}) for text in texts)
            (self.folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
        return {"sets": {name: str(self.folder / f"{name}.jsonl") for name in ("sums", "facts")}}

    def build(self, **more: Any) -> Any:
        """The part, fitted as core fits it before anything is judged."""
        part, workdir = super().build(**more), self.folder / "fit"
        workdir.mkdir(exist_ok=True)
        lines = {name: Path(file).read_text(encoding="utf-8").splitlines() for name, file in part.inputs().items()}
        part.fit({name: map(json.loads, rows) for name, rows in lines.items()}, workdir)
        return part

    def documents(self) -> list[Document]:
        """The kit's, in some of which an evaluation text or a common phrase was put."""
        planted = {1: LONG, 3: SHORT.upper(), 5: f"{LONG} {SHORT}", 6: COMMON, 7: COMMON, 8: COMMON}
        return [self._planted(document, planted.get(i % 20)) for i, document in enumerate(super().documents())]

    def _planted(self, document: Document, text: str | None) -> Document:
        if text is None or document.text is None:
            return document
        return dataclasses.replace(document, text=f"{document.text}\n{text} {document.text}")


class TestDecontaminateCuts(TestDecontaminate):
    """Row-wise; the overlaps are cut out."""

    component = "decontaminate"
    settings: ClassVar[dict[str, Any]] = {"action": "cut", "window": 20, "min_piece": 10}


class TestDecontaminateRarePhrases(TestDecontaminate):
    """Corpus-wise."""

    component = "decontaminate"
    settings: ClassVar[dict[str, Any]] = {"max_documents": 15}
