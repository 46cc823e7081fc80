"""Where things lie in a store, and whether this lmgraft may use it.

::

    format.json
    actions/<kk>/<key>/             action.json, sidecar/
    objects/<dd>/<digest>/          manifest.json, files/ (read-only)
    work/<key>/<token>-<nonce>/     intent.json, work/, object/files/, sidecar/; publish.json and action/ near the end
    leases/<key>/<token>            who builds the key
    roots/<hash>.json               which run uses which keys
    trash/                          on its way out
    digests.sqlite                  sha256 of input files: only a cache
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lmgraft.errors import Problem, UserError
from lmgraft.store._errors import explained
from lmgraft.store._files import exists, names, nonce, read_json, remove_tree, write_json

__all__ = ["FORMAT", "Layout"]

#: Raised when an older lmgraft would misread the store.
FORMAT = 1

_KEY = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z_-]{2,127}")
_ELSEWHERE = "set store.dir=PATH to use another folder"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one store."""

    root: Path

    def action(self, key: str) -> Path:
        return self.root / "actions" / _checked(key)[:2] / key

    def object(self, digest: str) -> Path:
        return self.root / "objects" / _checked(digest)[:2] / digest

    def work(self, key: str) -> Path:
        return self.root / "work" / _checked(key)

    def leases(self, key: str) -> Path:
        return self.root / "leases" / _checked(key)

    @property
    def roots(self) -> Path:
        return self.root / "roots"

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    @property
    def digests(self) -> Path:
        return self.root / "digests.sqlite"

    def keys(self, folder: str) -> list[str]:
        """The names in ``work`` or ``leases`` that are keys."""
        return [name for name in names(self.root / folder) if _KEY.fullmatch(name)]

    def fanned(self, folder: str) -> list[str]:
        """The names two levels deep in ``actions`` or ``objects``."""
        top = self.root / folder
        return [
            name for pair in names(top) for name in names(top / pair) if _KEY.fullmatch(name) and name.startswith(pair)
        ]

    def ready(self) -> bool:
        """Is there a store? UserError where there is one that this lmgraft cannot read."""
        path = self.root / "format.json"
        try:
            version = read_json(path).get("format")
        except (FileNotFoundError, NotADirectoryError):
            return False
        except ValueError:
            version = None
        if not isinstance(version, int):
            raise UserError(Problem(f"{path} cannot be read", "it does not say the store's format", _ELSEWHERE))
        if version > FORMAT:
            cause = f"it has format {version}, and this lmgraft knows formats up to {FORMAT}"
            raise UserError(Problem(f"the store {self.root} is newer", cause, f"upgrade lmgraft, or {_ELSEWHERE}"))
        return True

    def prepare(self) -> None:
        """Makes the store where there is none. UserError where the folder is something else, or cannot be written."""
        with explained(self.root):
            if exists(self.root) and not self.root.is_dir():
                raise UserError(Problem(f"the store cannot use {self.root}", "it is not a folder", _ELSEWHERE))
            if not self.ready():
                self._make()
            for name in ("actions", "objects", "work", "leases", "roots", "trash"):
                (self.root / name).mkdir(exist_ok=True)

    def _make(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        others = [name for name in names(self.root) if not name.startswith(".format.json.")]
        # Collecting garbage in a folder that merely has a "work" folder of its user's in it would be a disaster.
        # (Asked twice: another process may have made the store since.)
        if others and not self.ready():
            cause = f"it is not empty and holds no format.json, but {others[0]} and {len(others) - 1} more"
            raise UserError(Problem(f"{self.root} is not a store", cause, _ELSEWHERE))
        if not others:
            write_json(self.root / "format.json", {"format": FORMAT})

    def discard(self, path: Path) -> None:
        """Takes a folder out of sight at once (a rename), then removes it at leisure."""
        self.trash.mkdir(exist_ok=True)
        target = self.trash / nonce()
        try:
            os.rename(path, target)
        except FileNotFoundError:
            return
        remove_tree(target)


def _checked(name: str) -> str:
    if not _KEY.fullmatch(name):
        raise ValueError(f"{name!r} is not a key: 3 to 128 letters, digits, dashes and underscores")
    return name
