"""Models that are merged tensor by tensor: are they alike? Told from their config.json and headers alone.

What is computed is computed in float32 (float64 where a model is), whatever the files' dtype, and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from lmgraft.artifacts import checkpoint, streaming
from lmgraft.artifacts.layers import DEPTH_KEYS
from lmgraft.artifacts.streaming import Computed, Piece, Rule
from lmgraft.errors import Problem, UserError

from lmgraft_merges.plugin import Dtype

__all__ = ["HEAD", "Models", "alike", "read", "unlike"]

#: The head in the words of Hugging Face; left out where it is the embedding.
HEAD = "lm_head.weight"

_FLOATS = ("F64", "F32", "F16", "BF16")
_WORDS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}
_CODES = {word: code for code, word in _WORDS.items()}

#: What weights of the same shapes mean something else under; a family's word for each.
_MEANING = (
    ("model_type",),
    ("num_attention_heads", "n_head"),
    ("num_key_value_heads",),
    ("head_dim",),
    ("hidden_act", "activation_function", "hidden_activation"),
    ("num_experts_per_tok",),
    ("alibi",),
    ("parallel_attn",),
)
_SILU = {"silu", "swish"}
#: Settings that models which are merged may have otherwise, the result having the first one's; and sizes, which shapes
#: tell.
_OWN = frozenset({"part", "layers", "hidden", "mlp", "context", "window", "norm_eps", "expert_balance"})
#: Bytes compared at once.
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Models:
    """Model folders, read as far as their headers."""

    folders: Sequence[Path]
    """As they were given."""
    configs: Sequence[Mapping[str, Any]]
    """Their config.json."""
    tensors: Sequence[Mapping[str, Piece]]
    """Their tensors; a tied head is left out."""

    def plan(self, dtype: Dtype | None, rule: Callable[[str], Rule]) -> dict[str, Piece | Computed]:
        """Every tensor made of those of its name in all models, in their order, by the rule that its name gives. What
        is no floating-point number is the first model's: all have it alike."""
        found: dict[str, Piece | Computed] = {}
        for name, first in self.tensors[0].items():
            if first.dtype not in _FLOATS:
                found[name] = first
                continue
            sources = [tensors[name] for tensors in self.tensors]
            kind = first.dtype if dtype is None else _CODES[dtype.value]
            found[name] = Computed(kind, first.shape, sources, rule(name))
        return found

    def write(
        self,
        out: Path,
        plan: Mapping[str, Piece | Computed],
        dtype: Dtype | None,
        progress: Callable[[int, int], None],
        like: int = 0,
    ) -> None:
        """Writes the plan with the settings of the model ``like``."""
        config = dict(self.configs[like])
        if dtype is not None:
            keys = [key for key in ("dtype", "torch_dtype") if key in config] or ["torch_dtype"]
            config |= dict.fromkeys(keys, dtype.value)
        generation = checkpoint.read_generation_config(self.folders[like])
        streaming.write(out, plan, config, generation, progress=progress)


def read(part: str, folders: Sequence[Path], takes: tuple[int, int | None]) -> Models:
    """The models' headers.

    :raises UserError: too few or too many of them, or one cannot be read or is quantised.
    """
    least, most = takes
    if len(folders) < least or (most is not None and len(folders) > most):
        wanted = f"{least} models" if most == least else f"{least} models or more"
        fact, cause = f"{part} takes {wanted.replace('1 models', '1 model')}", f"it is given {len(folders)}"
        raise UserError(Problem(fact, cause, f"name {wanted}"))
    configs, tensors, problems = [], [], []
    for folder in folders:
        try:
            config = checkpoint.read_config(folder)
            found = streaming.pieces(folder)
        except UserError as error:
            problems += error.problems
            continue
        if config.get("quantization_config") is not None:
            cause = "packed numbers cannot be computed with, and its layers need not be packed alike"
            fact = f"{folder}: config.json tells of a quantised model"
            problems.append(Problem(fact, cause, "take the model as it was before it was quantised"))
        if _tied(config, _settings(folder)):
            # Some writers store the second name of the one matrix too; two copies of it would drift apart.
            found = {name: piece for name, piece in found.items() if name != HEAD}
        configs.append(config)
        tensors.append(found)
    if problems:
        raise UserError(problems)
    return Models(list(folders), configs, tensors)


def alike(models: Models, dtype: Dtype | None) -> None:
    """Do all models have the same tensors, which mean the same?

    :raises UserError: a problem for each model that differs from the first.
    """
    problems: list[Problem] = []
    for number in range(1, len(models.folders)):
        fact = f"{models.folders[0]} and {models.folders[number]} cannot be merged"
        problem = next(unlike(models, number, deep=True), None) or next(_tensors_differ(models, number, dtype), None)
        if problem is not None:
            problems.append(Problem(fact, *problem))
    if problems:
        raise UserError(problems)


def unlike(models: Models, number: int, *, deep: bool = False) -> Iterator[tuple[str, str]]:
    """(cause, remedy) for what config.json tells otherwise of model ``number`` than of the first; with ``deep`` they
    must have as many layers."""
    first, other = models.configs[0], models.configs[number]
    settings = [_settings(models.folders[at]) for at in (0, number)]
    # A file may be silent where a setting is its family's usual one, which the installed architectures know.
    known = None not in settings
    for keys in (*_MEANING, *([DEPTH_KEYS] if deep else [])):
        one, two = _told(first, keys), _told(other, keys)
        if one != two and not (known and (None in (one, two) or {one, two} == _SILU)):
            cause = f"{keys[0]} is {_said(one)} in the one and {_said(two)} in the other"
            yield cause, "merge models of one family and size, best those that were trained from one"
    one, two = _theta(first), _theta(other)
    if one is not None and two is not None and one != two:
        cause = f"rope_theta is {one:g} in the one and {two:g} in the other, so they see positions otherwise"
        yield cause, "merge models that were trained from one"
    tied = [_tied(config, setting) for config, setting in zip((first, other), settings, strict=True)]
    if tied[0] != tied[1]:
        cause = "the head of one is its embedding (tie_word_embeddings), and the other has a head of its own"
        yield cause, "merge models that have it alike"
    for name, one, two in _differing(*settings) if known else ():
        cause = f"{name} is {_said(one)} in the one and {_said(two)} in the other"
        yield cause, "merge models of one family and size, best those that were trained from one"


def _settings(folder: Path) -> Any:
    """Those of the installed architecture that reads the model; None where none does."""
    from lmgraft.loading import settings_for

    try:
        return settings_for(folder)[1]
    except UserError:
        return None


def _tied(config: Mapping[str, Any], settings: Any) -> bool:
    return bool(config.get("tie_word_embeddings", getattr(settings, "tied", False)))


def _differing(one: Any, two: Any, within: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Settings that give weights of the same shapes another meaning, and their two values."""
    if type(one) is not type(two):
        return
    for field in fields(one):
        values = getattr(one, field.name), getattr(two, field.name)
        if field.name in _OWN or values[0] == values[1]:
            continue
        if is_dataclass(values[0]):
            yield from _differing(*values, f"{within}{field.name}.")
        else:
            yield f"{within}{field.name}", *values


def _tensors_differ(models: Models, number: int, dtype: Dtype | None) -> Iterator[tuple[str, str]]:
    first, other = models.tensors[0], models.tensors[number]
    for name in sorted(first.keys() ^ other.keys()):
        holder = models.folders[0 if name in first else number]
        lost = len(first.keys() ^ other.keys()) - 1
        more = f", and {lost} more" if lost else ""
        yield f"only {holder} has the tensor {name}{more}", "merge models of one family and size"
    for name, piece in first.items():
        if name not in other:
            continue
        if piece.shape != other[name].shape:
            yield _shapes(models, number, name, piece.shape, other[name].shape)
        yield from _dtypes(name, piece, other[name], dtype)


def _shapes(models: Models, number: int, name: str, one: tuple[int, ...], two: tuple[int, ...]) -> tuple[str, str]:
    cause = f"{name} is {_by(one)} in the one and {_by(two)} in the other"
    words = [config.get("vocab_size") for config in (models.configs[0], models.configs[number])]
    if words[0] != words[1] and one[:1] == (words[0],) and two[:1] == (words[1],) and one[1:] == two[1:]:
        remedy = f"give both one vocabulary: lmgraft merge vocabulary_rows {models.folders[number]} OUT --tokenizer"
        return f"{cause}: their vocabularies differ", f"{remedy} {models.folders[0]}"
    return cause, "merge models of one size"


def _dtypes(name: str, one: Piece, two: Piece, dtype: Dtype | None) -> Iterator[tuple[str, str]]:
    kinds = {one.dtype, two.dtype}
    if not kinds <= set(_FLOATS):
        if len(kinds) > 1 or not _same(one, two):
            cause = f"{name} is {' and '.join(sorted(kinds))}, and only {', '.join(_FLOATS)} can be computed with"
            yield cause, "take the models in bfloat16 or float32"
    elif len(kinds) > 1 and dtype is None:
        cause = f"{name} is {_WORDS[one.dtype]} in the one and {_WORDS[two.dtype]} in the other"
        word = _WORDS[two.dtype if two.dtype != "F64" else one.dtype]
        yield cause, f"dtype={word}"


def _same(one: Piece, two: Piece) -> bool:
    """Are their bytes equal? Tables of masks and positions, a few megabytes."""
    if one.size != two.size:
        return False
    with one.header.file.open("rb") as left, two.header.file.open("rb") as right:
        left.seek(one.start)
        right.seek(two.start)
        spans = (min(_BLOCK, one.size - at) for at in range(0, one.size, _BLOCK))
        return all(left.read(span) == right.read(span) for span in spans)


def _told(config: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((config[key] for key in keys if config.get(key) is not None), None)


def _theta(config: Mapping[str, Any]) -> float | None:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    inner = rope.get("rope_theta") if isinstance(rope, Mapping) else None
    found = inner if inner is not None else config.get("rope_theta")
    return float(found) if isinstance(found, int | float) else None


def _said(value: Any) -> str:
    return "not told" if value is None else str(getattr(value, "value", value))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a scalar"
