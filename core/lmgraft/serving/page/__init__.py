"""The chat page: one file of HTML with its script and style inside, and the policy that lets only these run."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources

__all__ = ["Page"]


class Page:
    """``html``, and ``policy`` for the header ``Content-Security-Policy``: it names script and style by their digests,
    lets the page speak with its own server, and nothing else."""

    def __init__(self, model: str, *, chats: bool) -> None:
        files = resources.files(__package__ or __name__)
        text, style, script = (
            files.joinpath(f"chat.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
        )
        # Inside a script "</script>" would end it, and a model's name is whatever a folder is called.
        told = json.dumps({"model": model, "chats": chats}).replace("<", "\\u003c")
        script = script.replace('"SETTINGS"', told)
        self.html = text.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
        self.policy = "; ".join([
            "default-src 'none'", f"script-src '{_digest(script)}'", f"style-src '{_digest(style)}'",
            "connect-src 'self'", "img-src data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
        ])  # fmt: skip


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
