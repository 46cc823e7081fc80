"""Attacks on whoever runs a stranger's recipe: each is a folder of files that tries to do more than compose parts.

``@MARKER@`` stands for a file that only the attacker's code would create, ``@OUTSIDE@`` for a folder that is none of a
recipe's business (it holds ``evil.yaml`` and ``precious/``), ``@DOCS@`` for a folder with a little text. The
environment variable ``LMGRAFT_TEST_WORD`` holds a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["CALL", "SECRET", "Door", "entry", "hydra", "one", "params", "recipe", "text"]

SECRET = "hunter2-hunter2"
#: A call that Hydra makes gladly, and whose effect is easy to see: it creates the file.
CALL = "{_target_: logging.FileHandler, filename: '@MARKER@'}"
SWEEP = "hydra: {sweeper: {params: {corpus.shard_bytes: '2048,4096'}}}"


def recipe(body: str = "", *, before: tuple[str, ...] = (), after: tuple[str, ...] = (), head: str = "") -> str:
    """A recipe that would run, and quickly, if only it held nothing more."""
    entries = ["base", "stage@corpus: corpus", "data_source@corpus.sources: [files]", *before, "_self_", *after]
    listed = "\n".join(f"  - {entry}" for entry in entries)
    corpus = "" if "corpus:" in body.splitlines() else "corpus: {sources: {files: {path: '@DOCS@'}}}\n"
    return f"{head}defaults:\n{listed}\nstages: [corpus]\n{corpus}{body}\n"


@dataclass(frozen=True)
class Door:
    name: str
    files: dict[str, str | bytes]
    why: str = "is refused in a recipe file"
    """What the message must say: refused for the right reason, not by luck."""
    overrides: tuple[str, ...] = ()
    cli: bool = True
    """Try it through ``lmgraft run --multirun`` too."""
    links: dict[str, str] = field(default_factory=dict)


def one(
    name: str,
    body: str = "",
    *,
    why: str = "",
    before: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
    head: str = "",
    overrides: tuple[str, ...] = (),
    **others: str | bytes,
) -> Door:
    files = {"recipe.yaml": recipe(body, before=before, after=after, head=head)}
    files |= {re.sub(r"__(?!_)", "/", key) + ".yaml": text for key, text in others.items()}  # type: ignore[dict-item]
    return Door(name, files, why or "is refused in a recipe file", overrides)


def hydra(name: str, text: str, why: str = "") -> Door:
    return one(f"hydra.{name}", f"hydra: {text}", why=why)


def text(name: str, value: str, why: str = "") -> Door:
    """A string of a part's settings; what it becomes stands in the manifest."""
    return one(f"text: {name}", f"corpus:\n  sources: {{files: {{path: '@DOCS@', text: {value}}}}}", why=why)


def params(name: str, text: str, why: str = "", **others: str | bytes) -> Door:
    return one(f"params: {name}", f"hydra: {{sweeper: {{params: {text}}}}}", why=why, **others)


def entry(name: str, line: str, why: str = "", *, last: bool = False, body: str = "", **others: str | bytes) -> Door:
    key = {"after": (line,)} if last else {"before": (line,)}
    return one(f"defaults: {name}", body, why=why, **key, **others)  # type: ignore[arg-type]
