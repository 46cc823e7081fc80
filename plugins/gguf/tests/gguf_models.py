"""Small models in Hugging Face's own classes, with tokenizers, for llama.cpp to read."""

from __future__ import annotations

from pathlib import Path

import torch
from lmgraft.testing.inputs import texts

__all__ = ["FAMILIES", "byte_bpe", "model", "subword"]

#: Name -> (transformers' config class, what it is made of).
FAMILIES = {
    "llama": ("LlamaConfig", {"num_key_value_heads": 2}),
    "llama-wide-heads": ("LlamaConfig", {"num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True}),
    "llama-biases": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    "llama-linear": ("LlamaConfig", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    "llama3": (
        "LlamaConfig",
        {
            "rope_parameters": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32, "rope_theta": 5e5,
            }
        },
    ),
    "mistral": ("MistralConfig", {"num_key_value_heads": 2, "sliding_window": None}),
    "qwen2": ("Qwen2Config", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "mixtral": ("MixtralConfig", {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2,
                                  "sliding_window": None}),
    "gpt2": ("GPT2Config", {"n_positions": 128}),
    "falcon-7b": ("FalconConfig", {"multi_query": True, "parallel_attn": True, "new_decoder_architecture": False,
                                   "bias": False, "alibi": False, "activation": "gelu"}),
    "falcon-40b": ("FalconConfig", {"new_decoder_architecture": True, "num_kv_heads": 2, "bias": False,
                                    "alibi": False}),
    "bloom": ("BloomConfig", {}),
}  # fmt: skip

_COMMON = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
    "max_position_embeddings": 128,
}  # fmt: skip
_OTHERS = {
    "GPT2Config": {"n_embd": 64, "n_layer": 2, "n_head": 4},
    "FalconConfig": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "BloomConfig": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
}


def model(folder: Path, family: str, rows: int, seed: int = 0) -> torch.nn.Module:
    """Writes a model of this family with ``rows`` rows; gives it."""
    import transformers

    name, more = FAMILIES[family]
    torch.manual_seed(seed)
    config = getattr(transformers, name)(
        vocab_size=rows, bos_token_id=0, eos_token_id=0, pad_token_id=1, **_OTHERS.get(name, _COMMON), **more
    )
    made = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        # Far apart, so that the most probable token does not hang on the last digit; norms and biases off their start.
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim > 1 else 0.2))
    made.save_pretrained(folder)
    return made


def byte_bpe(folder: Path, pattern: str = "gpt2", size: int = 600, template: str | None = None) -> None:
    """Trains and writes a byte-level tokenizer."""
    from lmgraft.registry import build, registry

    component = registry().get("tokenizer", "byte_bpe").component
    settings = component.config()
    settings.part = "byte_bpe"
    settings.pattern = type(settings.pattern)[pattern]
    settings.vocab_size, settings.chat_template = size, template
    settings.special_tokens = ["<|im_start|>", "<|im_end|>"]
    _train(build(component, settings), folder)


def subword(folder: Path, name: str, size: int = 600, **more: object) -> None:
    """The same of characters: ``bpe`` or ``unigram``."""
    from lmgraft.registry import build, registry

    component = registry().get("tokenizer", name).component
    settings = component.config()
    settings.part, settings.vocab_size = name, size
    for key, value in more.items():
        setattr(settings, key, value)
    _train(build(component, settings), folder)


def _train(part, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    part.train(iter([*texts(300), "a  b   c\n\n\tdef f(x):\n    return x  # 12345 'll\n"] * 3))
    part.save(folder)
