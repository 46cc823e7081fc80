"""The process in which PDFium reads strangers' files: ``python -m lmgraft_pdf.child MEMORY_MB``.

A line of JSON for each file comes in, a line of JSON goes out. PDFium is C++: a file that makes it crash, hang or take
all memory ends this process and no other.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

__all__ = ["extract", "main"]

#: Characters that one file may give: a page of dense print has 5,000.
MOST = 64 << 20
#: FPDF_ERR_PASSWORD and FPDF_ERR_SECURITY of fpdfview.h.
_ENCRYPTED = (4, 5)


def extract(path: str, max_pages: int) -> dict[str, Any]:
    """``pages`` (the text of each, None where it failed), ``title``; or ``error``: a reason and its cause."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) in _ENCRYPTED:
            return {"error": ["encrypted", "it asks for a password"]}
        return {"error": ["bad_pdf", str(error)]}
    except OSError as error:
        return {"error": ["bad_pdf", error.strerror or str(error)]}
    except MemoryError:
        return {"error": ["too_large", "it takes more memory than memory_mb allows"]}
    try:
        if len(document) > max_pages:
            return {"error": ["too_long", f"it has {len(document)} pages, and max_pages is {max_pages}"]}
        pages: list[str | None] = []
        characters = 0
        for number in range(len(document)):
            pages.append(_page(document, number))
            characters += len(pages[-1] or "")
            if characters > MOST:
                return {"error": ["too_long", f"its text has more than {MOST} characters"]}
        return {"pages": pages, "title": str(document.get_metadata_dict().get("Title") or "").strip()}
    except MemoryError:
        return {"error": ["too_large", "it takes more memory than memory_mb allows"]}
    finally:
        document.close()


def _page(document: Any, number: int) -> str | None:
    import pypdfium2

    try:
        page = document[number]
        try:
            text = page.get_textpage()
            try:
                return str(text.get_text_bounded())
            finally:
                text.close()
        finally:
            page.close()
    except (pypdfium2.PdfiumError, ValueError):
        return None


def main() -> None:
    """Serves until its input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what the library prints is no answer
    memory = int(sys.argv[1]) << 20
    try:
        import resource

        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass  # a platform without limits: time is watched by the parent
    for line in sys.stdin:
        out.write(json.dumps(extract(**json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
