"""A tiny llama that writes letters, digits and signs which depend on all that it has read, and ends when it is told to.

The first width of its residual stream stays 1, so that the head's first column is a bias: what is no
printable character is never drawn, and the end token as often as ``end`` says.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from lmgraft.artifacts import tokenizer
from lmgraft.chat import TEMPLATES
from lmgraft.testing.inputs import byte_tokenizer
from lmgraft.testing.models import llama_shapes
from safetensors.numpy import save_file

__all__ = ["write_model"]

HIDDEN = 32


def write_model(
    folder: Path, *, context: int = 256, template: str | None = "solar", end: float = -1e4, seed: int = 0
) -> Path:
    """Writes the model folder. ``end`` is what the end token's logit has beside the others' (about 0 to 4)."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "vocab_size": 258,
        "hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": HIDDEN // 4, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "max_position_embeddings": context, "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": False, "bos_token_id": 256, "eos_token_id": 256, "pad_token_id": 257,
    }  # fmt: skip
    drawn = np.random.default_rng(seed)
    weights = {
        name: np.ones(shape, np.float32) if len(shape) == 1 else (0.3 * drawn.standard_normal(shape)).astype("<f4")
        for name, shape in llama_shapes(config).items()
    }
    weights["model.embed_tokens.weight"][:, 0] = 1.0
    for name in weights:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name][0] = 0.0
    read = byte_tokenizer(folder)
    bias = np.full(258, -1e4, np.float32)
    printable = [read.encode_batch([chr(code)])[0][0] for code in range(33, 127)]
    bias[printable], bias[256] = 0.0, end
    weights["lm_head.weight"][:, 0] = bias
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [256]}))
    if template is not None:
        tokenizer.set_chat_template(folder, TEMPLATES[template])
    return folder
