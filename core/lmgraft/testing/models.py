"""Model folders for suites: small llama-like ones that are whole, wide ones for measuring memory, and broken ones.

Written tensor by tensor without torch, so that the kit itself needs no more memory than it allows to a part.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lmgraft.artifacts import checkpoint

__all__ = ["BROKEN", "WIDE", "contents", "llama_shapes", "unused", "write_gpt2", "write_llama"]

#: Width at which 32 layers weigh about 130 MB in float32, in tensors of half a megabyte.
WIDE = 384

_VOCAB = 258


def write_llama(folder: Path, *, layers: int = 32, hidden: int = 8, seed: int = 0, dtype: str = "float32") -> None:
    """A llama in float32 or bfloat16 with seeded weights and a tokenizer of bytes."""
    from lmgraft.testing.inputs import byte_tokenizer

    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": dtype, "vocab_size": _VOCAB,
        "hidden_size": hidden, "intermediate_size": hidden, "num_hidden_layers": layers, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": hidden // 2, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "max_position_embeddings": 64, "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": False, "bos_token_id": 256, "eos_token_id": 256, "pad_token_id": 257,
    }  # fmt: skip
    _write(folder, llama_shapes(config), config, seed)
    byte_tokenizer(folder)


def write_gpt2(folder: Path, *, layers: int = 32, hidden: int = 8, seed: int = 0) -> None:
    """A model of another family: other names, other shapes, another ``model_type``."""
    config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "dtype": "float32", "vocab_size": _VOCAB,
        "n_embd": hidden, "n_layer": layers, "n_head": 2, "n_positions": 64,
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (_VOCAB, hidden)}
    for layer in range(layers):
        shapes[f"transformer.h.{layer}.attn.c_attn.weight"] = (hidden, 3 * hidden)
        shapes[f"transformer.h.{layer}.mlp.c_fc.weight"] = (hidden, 4 * hidden)
    _write(folder, shapes, config, seed)


def llama_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a llama with this ``config.json``, in the names of Hugging Face; raises KeyError where a size is
    missing."""
    hidden, wide, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    each = config.get("head_dim") or hidden // heads
    queries, keys = heads * each, (config.get("num_key_value_heads") or heads) * each
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.{norm}_layernorm.weight": (hidden,) for norm in ("input", "post_attention")}
        shapes |= {
            f"{at}.self_attn.q_proj.weight": (queries, hidden),
            f"{at}.self_attn.o_proj.weight": (hidden, queries),
        }
        shapes |= {f"{at}.self_attn.{name}_proj.weight": (keys, hidden) for name in "kv"}
        shapes |= {f"{at}.mlp.{name}_proj.weight": (wide, hidden) for name in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (hidden, wide)
    return shapes


def contents(folder: Path) -> dict[str, str]:
    """File below ``folder`` -> sha256 of its content; a link counts as where it leads."""
    return {
        path.relative_to(folder).as_posix(): (
            f"link to {path.readlink()}" if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def unused(folder: Path, name: str) -> Path:
    """A path of this name below ``folder`` that is not there yet; its parent is, and is empty."""
    number = sum(1 for path in folder.iterdir() if path.name.startswith("at-"))
    (folder / f"at-{number}").mkdir()
    return folder / f"at-{number}" / name


def _write(folder: Path, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], seed: int) -> None:
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    kind, width = ("BF16", 2) if config["dtype"] == "bfloat16" else ("F32", 4)
    end = 0
    for name, shape in shapes.items():
        content[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + width * math.prod(shape)]}
        end += width * math.prod(shape)
    head = json.dumps(content).encode()
    head += b" " * (-len(head) % 8)
    drawn = np.random.default_rng(seed)
    with (folder / checkpoint.WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for shape in shapes.values():
            numbers = (0.02 * drawn.standard_normal(shape, dtype=np.float32)).astype("<f4")
            file.write((numbers if width == 4 else (numbers.view("<u4") >> 16).astype("<u2")).tobytes())
    (folder / checkpoint.CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


# --- folders that nothing can be made of ------------------------------------------------------------------------------


def _cut(folder: Path) -> None:
    file = next(iter(sorted(folder.glob("*.safetensors"))))
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size * 2 // 3)


def _nameless(folder: Path) -> None:
    (folder / checkpoint.CONFIG).unlink()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


#: What is wrong with a folder -> what makes a whole folder so.
BROKEN: dict[str, Callable[[Path], None]] = {
    "whose weights are cut off": _cut,
    "without config.json": _nameless,
    "that is empty": _empty,
}
