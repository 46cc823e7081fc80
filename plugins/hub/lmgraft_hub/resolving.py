"""From settings to what is read: the commit, the files of the split, the rows' stream. No code of a data set runs."""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import dataclass, field
from typing import Any

from lmgraft.errors import Problem, UserError

from lmgraft_hub.plugin import HubConfig
from lmgraft_hub.telling import told

__all__ = ["Opened", "Pinned", "opened", "pinned"]

#: Seconds for a hub that does not answer.
TIMEOUT = 30
#: Readers of ``datasets`` that read rows and nothing that could be code (pickles, tensors).
READERS = ("parquet", "json", "csv", "text", "arrow")


@dataclass(frozen=True)
class Pinned:
    """What a revision is."""

    commit: str
    """40 hex digits; empty for a folder."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Path in the repository -> bytes."""


@dataclass(frozen=True)
class Opened:
    """A split, ready to be read."""

    rows: Any
    """``datasets.IterableDataset``."""
    shards: int
    files: list[str]
    """The file of each shard, relative to the data set; empty where shards are no files."""


def pinned(config: HubConfig) -> Pinned:
    """Asks the hub what ``revision`` is. Raises UserError."""
    from huggingface_hub import HfApi

    if config.folder() is not None:
        _no_script(config, os.listdir(config.folder()))
        return Pinned("")
    try:
        info = HfApi().dataset_info(config.name, revision=config.revision, files_metadata=True, timeout=TIMEOUT)
    except Exception as error:
        raise UserError(told(config, error)) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    _no_script(config, list(sizes))
    return Pinned(str(info.sha), sizes)


def opened(config: HubConfig, commit: str) -> Opened:
    """The split at a commit. Raises UserError."""
    import datasets

    for name in ("datasets", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    folder = config.folder()
    try:
        # Nothing is prepared for later, so what the library would keep beside its own cache is not kept.
        with tempfile.TemporaryDirectory(prefix="lmgraft-hub-") as scratch:
            place = folder or config.name
            builder = datasets.load_dataset_builder(place, config.config, cache_dir=scratch, revision=commit or None)
        kind = type(builder).__module__.split(".")
        if kind[:2] != ["datasets", "packaged_modules"] or kind[-1] not in READERS:
            fact = f"hub: {config.name} holds {kind[-1]} files"
            raise UserError(Problem(fact, f"only {', '.join(READERS)} are read", "choose a data set of rows"))
        rows = builder.as_streaming_dataset(split=config.split)
    except UserError:
        raise
    except Exception as error:
        raise UserError(told(config, error)) from error
    shards = int(getattr(rows, "num_shards", 0) or rows.n_shards)
    files = [str(path) for path in (builder.config.data_files or {}).get(config.split, ())]
    names = [_relative(path, folder, commit) for path in files] if len(files) == shards else []
    return Opened(rows, shards, names if len(set(names)) == len(names) else [])


def _relative(path: str, folder: str | None, commit: str) -> str:
    if folder is not None:
        return os.path.relpath(path, folder).replace(os.sep, "/")
    return path.rpartition(f"@{commit}/")[2]


def _no_script(config: HubConfig, names: list[str]) -> None:
    own = f"{os.path.basename(os.path.abspath(config.name or ''))}.py"
    if own in names:
        fact, cause = f"hub: {config.name} is read by a script, {own}", "code of a data set is never run"
        raise UserError(Problem(fact, cause, "choose a revision with data files (refs/convert/parquet often is one)"))
