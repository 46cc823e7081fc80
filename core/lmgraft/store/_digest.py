"""The digest of an artifact: sha256 over the names, sizes and contents of its files, and the manifest beside it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgraft.errors import Fault
from lmgraft.store._files import files_under, fsync, fsync_tree
from lmgraft.store._inodes import renew

__all__ = ["Manifest", "file_sha256", "folder_manifest", "seal"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Relative path (``/`` between its parts) -> (bytes, sha256), in the order of the paths' bytes."""

    files: dict[str, tuple[int, str]]

    @property
    def digest(self) -> str:
        total = hashlib.sha256()
        for name, (size, content) in sorted(self.files.items(), key=lambda item: os.fsencode(item[0])):
            # No name holds a NUL, so no two lists of files give the same bytes.
            total.update(b"%s\0%d\0%s\n" % (os.fsencode(name), size, content.encode()))
        return total.hexdigest()

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(size for size, _ in self.files.values())

    def as_json(self) -> dict[str, Any]:
        return {"digest": self.digest, "files": {name: list(entry) for name, entry in self.files.items()}}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Manifest:
        """ValueError where it is no manifest, or not the one that its own digest promises."""
        try:
            manifest = Manifest({name: (int(size), str(content)) for name, (size, content) in value["files"].items()})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a manifest: {error!r}") from error
        if manifest.digest != value.get("digest"):
            raise ValueError("the manifest's own digest does not fit its files")
        return manifest


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_manifest(folder: Path) -> Manifest:
    """Reads every file under ``folder``. Fault where there is a symlink, a socket or a device in it."""
    return _manifest(folder, _plain_files(folder))


def seal(folder: Path) -> Manifest:
    """Makes a finished folder's files read-only, brings them to the disk and reads them: its manifest."""
    paths = _plain_files(folder)
    for path in paths:
        # A second name of the file (a hard link) would be a way to change the artifact later.
        if path.lstat().st_nlink > 1:
            renew(path, folder.parent)
        os.chmod(path, stat.S_IMODE(path.lstat().st_mode) & ~0o222)
        fsync(path)
    _prune(folder)
    fsync_tree(folder)
    return _manifest(folder, paths)


def _plain_files(folder: Path) -> list[Path]:
    paths = sorted(files_under(folder))
    for path in paths:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Fault(f"an artifact holds plain files only, and {path} is a symlink, a socket or a device")
    return paths


def _manifest(folder: Path, paths: Iterable[Path]) -> Manifest:
    from concurrent.futures import ThreadPoolExecutor  # here, for what only looks things up never needs it

    paths = list(paths)
    # hashlib lets go of the interpreter's lock while it reads.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        contents = list(pool.map(file_sha256, paths))
    return Manifest(
        {
            path.relative_to(folder).as_posix(): (path.lstat().st_size, content)
            for path, content in zip(paths, contents, strict=True)
        }
    )


def _prune(folder: Path) -> None:
    """Empty folders are not in the digest, so they cannot be in the artifact."""
    for parent, _, _ in os.walk(folder, topdown=False):
        if Path(parent) != folder and not os.listdir(parent):
            os.rmdir(parent)
