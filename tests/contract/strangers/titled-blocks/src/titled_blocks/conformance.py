"""``lmgraft plugins check titled-blocks`` runs this."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmgraft.testing import DataSourceSuite

from titled_blocks.format import write_block


class TestTitledBlocks(DataSourceSuite):
    component = "titled_blocks"

    def write(self, folder: Path, texts: Sequence[str]) -> dict[str, str]:
        half = len(texts) // 2
        for name, part in (("a.blocks", texts[:half]), ("below/b.blocks", texts[half:])):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "w", encoding="utf-8", newline="\n") as out:
                for number, text in enumerate(part):
                    write_block(out, text, title=f"{name} {number}", lang="en")
        return {"path": str(folder)}

    def break_input(self, folder: Path) -> dict[str, str]:
        (folder / "bad.blocks").write_text("Title: fine\n  text\nneither a header nor text\n", encoding="utf-8")
        return {"path": str(folder)}
