"""A line of JSONL for whatever reads it next."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["json_line"]

#: JSON leaves these as they are, and readers that split text by ``splitlines`` end a line at them.
_ENDS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def json_line(row: Any) -> str:
    """``row`` as a line with its end; letters of any script stay letters."""
    return json.dumps(row, ensure_ascii=False).translate(_ENDS) + "\n"
