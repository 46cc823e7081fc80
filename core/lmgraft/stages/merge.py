"""The kind of stage ``merge``: one model made of one or several by a merge part; the artifact is a model folder.

``lmgraft merge`` does the same to folders of the user's own, by way of :func:`merge`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft.artifacts import Artifact, checkpoint
from lmgraft.errors import Problem, UserError
from lmgraft.seams.merge import VocabularyMerge
from lmgraft.stages.plugin import MergeStage

if TYPE_CHECKING:
    from lmgraft.component import StageConfig
    from lmgraft.seams.merge import Merge
    from lmgraft.seams.stage import StageContext

__all__ = ["MergeModels", "depth", "merge", "vocabulary"]

#: What may lie beside a model to encode text for it; the first model's goes with the result.
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "tokenizer.model", "vocab.json", "merges.txt",
)  # fmt: skip

_DEPTH = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


class MergeModels:
    """Satisfies :class:`lmgraft.seams.stage.Stage`; see :class:`~lmgraft.stages.plugin.MergeStage` for its settings."""

    artifact = "model"

    def __init__(self, config: StageConfig) -> None:
        assert isinstance(config, MergeStage)
        self.config = config
        self._before: list[Path] = []

    def identity(self, context: StageContext) -> Mapping[str, Any]:
        self._before = [artifact.path for artifact in context.inputs["models"]]
        return {}

    def run(self, context: StageContext) -> None:
        """Merging starts over after a kill: it copies at the speed of the disk, and half a file is worth nothing."""
        models = [artifact.path for artifact in context.inputs["models"]]
        names = [artifact.stage for artifact in context.inputs["models"]]
        tokenizers = context.inputs.get("tokenizer") or []
        tokenizer = tokenizers[0].path if tokenizers else None
        with context.progress(f"merging into {context.name}", None, "B") as bar:
            reached = 0

            def progress(done: int, total: int) -> None:
                nonlocal reached
                context.alive()
                bar.total(total)
                bar.advance(done - reached)
                reached = done

            merge(context.part("merge"), models, context.out, progress, names, tokenizer)

    def summary(self, artifact: Artifact) -> Iterator[tuple[str, str]]:
        layers = depth(artifact.path)
        if layers is not None:
            before = [str(depth(model)) for model in self._before]
            yield f"layers ({', '.join(before)} before)" if before else "layers", str(layers)
        sizes = [vocabulary(model) for model in self._before]
        if any(size != vocabulary(artifact.path) for size in sizes):
            yield f"vocabulary ({', '.join(map(str, sizes))} before)", str(vocabulary(artifact.path))
        counts = [f"{checkpoint.parameters(model):,}" for model in self._before]
        named = f"parameters ({', '.join(counts)} before)" if counts else "parameters"
        yield named, f"{checkpoint.parameters(artifact.path):,}"


def merge(
    part: Merge,
    models: Sequence[Path],
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    names: Sequence[str] = (),
    tokenizer: Path | None = None,
) -> None:
    """Writes a whole model folder to ``out``: what the part makes of the models, and the first one's tokenizer and
    code (the ``*.py`` that its config.json names under ``auto_map``; copied, never run).

    :param names: what the models are called in a message; by default their folders.
    :param tokenizer: the folder of the tokenizer that the result is for, by a :class:`VocabularyMerge`; it goes with
        the result then.
    :raises UserError: the models cannot be merged, before anything is written.
    """
    _same_tokenizer(models, names or [str(model) for model in models])
    if tokenizer is None:
        part.merge(models, out, progress)
    else:
        _merge_vocabulary(part, models, tokenizer, out, progress)
    source = tokenizer or models[0]
    for name in _tokenizer_files(source):
        if (source / name).is_file():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, out / name)
    if checkpoint.read_config(out).get("auto_map"):
        for file in sorted(models[0].glob("*.py")):  # without it transformers would not know the class
            shutil.copyfile(file, out / file.name)
    checkpoint.verify(out)


def vocabulary(folder: Path) -> int | None:
    """The number of tokens that a model folder's config tells, if it tells one."""
    size = checkpoint.read_config(folder).get("vocab_size")
    return size if isinstance(size, int) else None


def depth(folder: Path) -> int | None:
    """The number of layers that a model folder's config tells, if it tells one."""
    config = checkpoint.read_config(folder)
    return next((config[key] for key in _DEPTH if isinstance(config.get(key), int)), None)


def _merge_vocabulary(
    part: Merge, models: Sequence[Path], tokenizer: Path, out: Path, progress: Callable[[int, int], None]
) -> None:
    """Lets the part change the vocabulary, and checks that every id has a row: training would fail on others late."""
    from lmgraft.artifacts import tokenizer as saved

    size = saved.load(tokenizer).vocab_size
    if not isinstance(part, VocabularyMerge):
        name = type(part).__name__
        cause = f"{name} has no merge_vocabulary, so its result has the vocabulary of the models"
        fact = f"the merge by {name} cannot make a model for the tokenizer {tokenizer}"
        raise UserError(Problem(fact, cause, "leave the tokenizer out, or take a part such as vocabulary_rows"))
    part.merge_vocabulary(models, tokenizer, out, progress)
    if vocabulary(out) != size:
        fact = f"the merge by {type(part).__name__} made a model of {vocabulary(out)} tokens"
        cause = f"the tokenizer {tokenizer} has {size}"
        raise UserError(Problem(fact, cause, "tell the part's author: vocab_size is the tokenizer's, and so are rows"))


def _same_tokenizer(models: Sequence[Path], names: Sequence[str]) -> None:
    """Models of different vocabularies have rows that mean different tokens."""
    problems = []
    first = _pieces(models[0])
    for model, name in list(zip(models, names, strict=True))[1:]:
        other = _pieces(model)
        if first == other:
            continue
        fact, remedy = f"{names[0]} and {name} cannot be merged", "merge models that share a tokenizer"
        if first is None or other is None:
            cause = f"{names[0] if first is None else name} has no tokenizer.json to compare with the other's"
            remedy = "put the tokenizer beside it that it was trained with"
        else:
            cause = f"{_difference(first, other)}: the same row of an embedding stands for different tokens"
        problems.append(Problem(fact, cause, remedy))
    if problems:
        raise UserError(problems)


def _pieces(folder: Path) -> dict[int, str] | None:
    """Id -> token of the tokenizer beside a model; None where there is none. How text is cut, normalised and padded
    may differ: it changes what is read, and not what a row means."""
    from lmgraft.artifacts import tokenizer

    path = folder / tokenizer.FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        model = content.get("model") or {}
        words = model.get("vocab") or {}
        found = {index: piece for piece, index in words.items()} if isinstance(words, dict) else {}
        if isinstance(words, list):  # unigram: pieces with their scores, in the order of their ids
            found = {index: str(entry[0]) for index, entry in enumerate(words)}
        found |= {token["id"]: token["content"] for token in content.get("added_tokens") or ()}
    except (ValueError, AttributeError, TypeError, KeyError, IndexError, RecursionError) as error:
        cause = f"it is no tokenizer of Hugging Face: {error}"
        raise UserError(Problem(f"{path} cannot be read", cause, "fetch or copy the model folder again")) from error
    # A part of somebody's own may keep its vocabulary in a file of its own.
    more = {-1 - number: name for number, name in enumerate(_added(folder))}
    return found | {key: f"{name} {_digest(folder / name)}" for key, name in more.items()}


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "missing"


def _difference(one: Mapping[int, str], two: Mapping[int, str]) -> str:
    if len(one) != len(two):
        return f"their tokenizers have {len(one)} and {len(two)} tokens"
    index = next(index for index in sorted(one.keys() | two.keys()) if one.get(index) != two.get(index))
    if index < 0:
        return f"their tokenizers differ in {one.get(index, two.get(index, '')).split()[0]}"
    return f"token {index} is {one.get(index)!r} in the one and {two.get(index)!r} in the other"


def _tokenizer_files(folder: Path) -> list[str]:
    """What a model folder may hold for its tokenizer, with the files that its part added."""
    return list(dict.fromkeys([*TOKENIZER_FILES, *_added(folder)]))


def _added(folder: Path) -> list[str]:
    from lmgraft.artifacts import tokenizer

    known = (tokenizer.FILE, tokenizer.CONFIG)
    return [name for name in tokenizer.names(folder) if name not in known] if (folder / known[1]).is_file() else []
