"""The kind of stage ``pretrained``: a model folder of somebody else's becomes an artifact.

Weights keep their bits and their dtype; only rows of a vocabulary that does not end where the tokenizer does are left
out or added (:mod:`lmgraft_pretrained.rows`). Its tokenizer is written as lmgraft keeps it, with a token of its own for
padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft.artifacts import Artifact, checkpoint, streaming
from lmgraft.component import StageConfig
from lmgraft.errors import Problem, UserError

from lmgraft_pretrained.plugin import PretrainedStage, folder_of

if TYPE_CHECKING:
    from lmgraft.seams.stage import StageContext

__all__ = ["TakeModel"]

#: What of the folder decides the artifact.
FILES = (checkpoint.CONFIG, checkpoint.GENERATION_CONFIG, "*.safetensors", "*.index.json", "tokenizer*", "*.jinja")
#: Bytes of a file where tensors are written anew: as much memory is needed.
SHARD_BYTES = 10**9


class TakeModel:
    """Satisfies :class:`lmgraft.seams.stage.Stage`."""

    artifact = "model"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, PretrainedStage)
        self._config = config

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        """The contents of the folder's files, and neither its path nor its dates; and the part that reads them."""
        from lmgraft.loading import settings_for
        from lmgraft.registry import package_hash

        folder = folder_of(self._config.path)
        component, _ = settings_for(folder)
        package = component.target.partition(":")[0].partition(".")[0]
        files = sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})
        try:
            digests = context.file_digests(files)
        except OSError as error:
            fact = f"{context.name}.path: {error.filename or folder} cannot be read"
            raise UserError(Problem(fact, error.strerror or str(error), "check that it exists and is yours")) from error
        return {
            "files": dict(zip([file.name for file in files], digests, strict=True)),
            "architecture": [component.name, component.revision, package_hash(package)],
        }

    def run(self, context: StageContext) -> None:
        """Copying starts over after a kill: half a file is worth nothing."""
        from lmgraft import chat
        from lmgraft.artifacts import tokenizer
        from lmgraft.seams.tokenizer import first_id

        folder = folder_of(self._config.path)
        checkpoint.verify(folder)
        self._tokenizer(context, folder)
        saved = tokenizer.load(context.out)
        self._weights(context, folder, saved.vocab_size)
        stops = (*_ends(folder, saved.vocab_size), *chat.stop_ids(saved, saved.chat_template))
        checkpoint.set_token_ids(
            context.out, end_id=saved.end_id, pad_id=saved.pad_id, stop_ids=stops, first_id=first_id(saved)
        )

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        yield "parameters", f"{checkpoint.parameters(artifact.path):,}"

    def _tokenizer(self, context: StageContext, folder: Path) -> None:
        from lmgraft import openers
        from lmgraft.artifacts import tokenizer

        given = context.inputs.get("tokenizer") or []
        if given:
            tokenizer.copy(given[0].path, context.out)
        else:
            openers.write(folder, context.out)

    def _weights(self, context: StageContext, folder: Path, vocab_size: int) -> None:
        from lmgraft.loading import architecture_for

        config = checkpoint.read_config(folder)
        generation = checkpoint.read_generation_config(folder)
        with context.progress(f"copying into {context.name}", None, "B") as bar:
            if config.get("vocab_size") == vocab_size:
                streaming.write(
                    context.out, streaming.pieces(folder), config, generation, progress=_moving(context, bar)
                )
                return
            from lmgraft_pretrained.rows import Fitted

            architecture = architecture_for(folder)
            stored = checkpoint.tensors(folder)
            from_hub, to_hub = (getattr(architecture, name, lambda given: given) for name in ("from_hub", "to_hub"))
            fitted = to_hub(Fitted(from_hub(stored), architecture.role, vocab_size))
            context.note(
                f"{context.name}: {config.get('vocab_size'):,} rows of vocabulary become the tokenizer's {vocab_size:,}"
            )
            checkpoint.write(context.out, fitted, config | {"vocab_size": vocab_size}, generation, SHARD_BYTES)


def _ends(folder: Path, vocab_size: int) -> tuple[int, ...]:
    """What the folder itself says ends a text; ids that have no row are left out."""
    ends = checkpoint.read_generation_config(folder).get("eos_token_id")
    listed = ends if isinstance(ends, list) else [ends]
    whole = (end for end in listed if isinstance(end, int) and not isinstance(end, bool))
    return tuple(end for end in whole if 0 <= end < vocab_size)


def _moving(context: StageContext, bar: Any) -> Any:
    reached = 0

    def progress(done: int, total: int) -> None:
        nonlocal reached
        context.alive()
        bar.total(total)
        bar.advance(done - reached)
        reached = done

    return progress
