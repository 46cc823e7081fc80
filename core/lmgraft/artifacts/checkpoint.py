"""A model as a Hugging Face folder: ``config.json``, ``generation_config.json`` and safetensors, whole or in shards.

Written by train and merge stages and read by everything after them. Names and shapes are read from the headers alone,
without torch, so that a plan or a table of a 70-billion-parameter model costs milliseconds; tensors are memory-mapped
one at a time. Nothing is ever unpickled: a ``.bin`` or ``.pt`` file can run code when it is opened, so it is refused.

Format: https://github.com/huggingface/safetensors#format and the ``model.safetensors.index.json`` of transformers.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmgraft.errors import Problem, UserError

if TYPE_CHECKING:
    import torch

__all__ = [
    "CONFIG",
    "GENERATION_CONFIG",
    "SHARD_BYTES",
    "Header",
    "Tensors",
    "headers",
    "parameters",
    "read_config",
    "read_generation_config",
    "set_config",
    "set_token_ids",
    "tensors",
    "verify",
    "write",
]

#: What says which class the folder's model is of, and its sizes.
CONFIG = "config.json"
#: Special ids and sampling defaults.
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

#: Bytes of tensors in one file at most; the default of transformers when it shards.
SHARD_BYTES = 5 * 10**9

#: The header's own limit in the safetensors library.
MAX_HEADER = 100_000_000

#: Bytes of an element in the names of the safetensors header.
WIDTHS = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of one tensor."""

    file: Path
    """The safetensors file that holds it."""
    dtype: str
    """In safetensors' words: ``F32``, ``BF16`` ..."""
    shape: tuple[int, ...]
    """As torch gives it; empty for a scalar."""


class Tensors(Mapping[str, "torch.Tensor"]):
    """The tensors of a model folder by name, each read when it is asked for. CPU, in the dtype of the file."""

    def __init__(self, folder: Path) -> None:
        self.headers = headers(folder)
        self._open: dict[Path, Any] = {}

    def __getitem__(self, name: str) -> torch.Tensor:
        from safetensors import SafetensorError, safe_open

        file = self.headers[name].file
        try:
            if file not in self._open:
                self._open[file] = safe_open(file, framework="pt", device="cpu")
            tensor: torch.Tensor = self._open[file].get_tensor(name)
        except SafetensorError as error:
            raise UserError(_damaged(file, str(error))) from error
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.headers)

    def __len__(self) -> int:
        return len(self.headers)


def tensors(folder: Path) -> Tensors:
    """The weights of a model folder, lazily.

    :raises UserError: no safetensors in the folder, a shard is missing or damaged.
    """
    return Tensors(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model folder.

    :raises UserError: it is missing or is no JSON object.
    """
    return _read_object(Path(folder) / CONFIG, "every Hugging Face model folder holds one")


def read_generation_config(folder: Path) -> dict[str, Any]:
    """``generation_config.json`` of a model folder; empty where it has none.

    :raises UserError: it is no JSON object.
    """
    path = Path(folder) / GENERATION_CONFIG
    return _read_object(path, "") if path.is_file() else {}


def headers(folder: Path) -> dict[str, Header]:
    """Name -> dtype and shape of every tensor, from the files' headers; torch is not needed.

    :raises UserError: no safetensors in the folder, a shard is missing or damaged.
    """
    folder = Path(folder)
    if not (folder / INDEX).is_file():
        return _file_headers(_only_file(folder))
    weight_map = _read_object(folder / INDEX, "it says which shard holds which tensor").get("weight_map")
    if not isinstance(weight_map, dict) or not all(_plain_name(file) for file in weight_map.values()):
        raise UserError(_damaged(folder / INDEX, "its weight_map does not map tensor names to file names"))
    found: dict[str, Header] = {}
    for file in sorted(set(weight_map.values())):
        found.update(_file_headers(folder / file))
    lost = [name for name, file in weight_map.items() if name not in found or found[name].file.name != file]
    if lost:
        raise UserError(_damaged(folder / INDEX, f"{lost[0]} is not in {weight_map[lost[0]]}, where it says it is"))
    return found


def parameters(folder: Path) -> int:
    """Number of parameters: elements of all tensors (a tied head is stored, and so counted, once)."""
    return sum(math.prod(header.shape) for header in headers(folder).values())


def verify(folder: Path) -> None:
    """Checks that the folder is a whole model: config, index and every file's header and length.

    :raises UserError: naming the first file that is missing or damaged.
    """
    config = read_config(folder)
    if "model_type" not in config:
        raise UserError(_damaged(Path(folder) / CONFIG, "it has no model_type, so no library knows what to build"))
    if not headers(folder):
        raise UserError(_damaged(Path(folder) / WEIGHTS, "it holds no tensors"))


def write(
    folder: Path,
    state: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    generation_config: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a model folder; the same tensors and values give the same bytes.

    Where ``config["tie_word_embeddings"]`` is true, ``lm_head.weight`` is left out, as transformers does: two copies
    of one weight drift apart as soon as someone edits one. Beyond ``shard_bytes`` the tensors go into several files,
    in the order of their names, with an index.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(state)
    if config.get("tie_word_embeddings"):
        names = [name for name in names if name != "lm_head.weight"]
    shards = _shards(names, state, shard_bytes)
    total = 0
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = WEIGHTS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        total += _write_file(folder / file, {name: state[name] for name in shard})
        weight_map.update(dict.fromkeys(shard, file))
    if len(shards) > 1:
        _write_object(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    _write_object(folder / CONFIG, config)
    _write_object(folder / GENERATION_CONFIG, generation_config or {})


def set_token_ids(
    folder: Path, *, end_id: int, pad_id: int, stop_ids: Sequence[int] = (), first_id: int | None = None
) -> None:
    """Writes the special ids into ``config.json`` and ``generation_config.json``.

    ``stop_ids``: all that end an answer, where a chat template closes answers with another token than the end; they
    stand in ``generation_config.json``, where transformers looks for them.

    ``first_id``: what a document begins with. By default that is the end token: a packed document follows the end of
    another one, so that is what the model has seen before a first token (as in GPT-2). Left out, transformers would
    fill in ids of other vocabularies and the model would never stop.
    """
    ids = {"bos_token_id": end_id if first_id is None else first_id, "eos_token_id": end_id, "pad_token_id": pad_id}
    folder = Path(folder)
    _write_object(folder / CONFIG, read_config(folder) | ids)
    ends = list(dict.fromkeys((end_id, *stop_ids)))
    told = ids | {"eos_token_id": ends} if len(ends) > 1 else ids
    _write_object(folder / GENERATION_CONFIG, read_generation_config(folder) | told)


def set_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Writes these keys of ``config.json`` and leaves the others as they are."""
    _write_object(Path(folder) / CONFIG, read_config(folder) | dict(values))


def _shards(names: list[str], state: Mapping[str, torch.Tensor], limit: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name in names:
        size = state[name].numel() * state[name].element_size()
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _write_file(path: Path, state: Mapping[str, torch.Tensor]) -> int:
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(plain, path, metadata={"format": "pt"})
    return sum(tensor.numel() * tensor.element_size() for tensor in plain.values())


def _write_object(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(dict(content), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _read_object(path: Path, why: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        cause = why or "it is part of a model folder"
        raise UserError(Problem(f"{path} is missing", cause, f"check that {path.parent} is a model folder")) from None
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(_damaged(path, str(error))) from error
    if not isinstance(content, dict):
        raise UserError(_damaged(path, "it holds no JSON object"))
    return content


def _only_file(folder: Path) -> Path:
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    pickled = sorted(path.name for suffix in ("bin", "pt", "pth", "ckpt") for path in folder.glob(f"*.{suffix}"))
    if pickled:
        raise UserError(
            Problem(
                f"{folder / pickled[0]} is refused",
                "it is a pickle, which can run any code when it is opened",
                "convert it where you trust it: transformers' save_pretrained writes model.safetensors",
            )
        )
    cause = f"the folder holds neither {WEIGHTS} nor {INDEX}"
    raise UserError(Problem(f"{folder} holds no model weights", cause, "give a Hugging Face model folder"))


def _file_headers(path: Path) -> dict[str, Header]:
    """Reads the header of one safetensors file and checks that the file is as long as it says."""
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > MAX_HEADER:
                raise ValueError(f"its header claims {length} bytes")
            content = json.loads(stream.read(length))
        content.pop("__metadata__", None)
        found = {name: Header(path, entry["dtype"], _shape(entry["shape"])) for name, entry in content.items()}
        spans = [_span(entry["data_offsets"]) for entry in content.values()]
        for (start, end), header in zip(spans, found.values(), strict=True):
            if end - start != math.prod(header.shape) * WIDTHS.get(header.dtype, 0) and header.dtype in WIDTHS:
                raise ValueError("a tensor's shape and its length disagree")
        reached = 0
        for start, end in sorted(spans):
            if start != reached:
                raise ValueError("its tensors do not lie one behind the other")
            reached = end
        size = path.stat().st_size
        expected = 8 + length + reached
        if size != expected:
            raise ValueError(f"it is {size} bytes long and its header speaks of {expected}")
    except FileNotFoundError:
        cause = "the index names it; a download or a copy may have stopped half-way"
        raise UserError(Problem(f"{path} is missing", cause, "fetch or copy the model folder again")) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error, OSError) as error:
        raise UserError(_damaged(path, str(error) or type(error).__name__)) from error
    return found


def _shape(sizes: Any) -> tuple[int, ...]:
    """As torch can make it: it takes no more elements, whatever stands beside a size of 0."""
    fine = isinstance(sizes, list) and all(type(size) is int and size >= 0 for size in sizes)
    if not fine or math.prod(max(1, size) for size in sizes) >= 2**60:
        raise ValueError("the shape of a tensor is none")
    return tuple(sizes)


def _span(offsets: Any) -> tuple[int, int]:
    start, end = offsets
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        raise ValueError("the place of a tensor is none")
    return start, end


def _plain_name(file: object) -> bool:
    """An index comes from outside: a shard lies in the model's own folder and nowhere else."""
    return isinstance(file, str) and file.endswith(".safetensors") and Path(file).name == file


def _damaged(path: Path, cause: str) -> Problem:
    return Problem(f"{path} cannot be read", cause, "fetch or build it again; lmgraft store verify checks its own")
