"""llama.cpp on the processor, by way of xllamacpp: one file loaded, asked over its own server."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["LlamaCpp"]


class LlamaCpp:
    """One file, in float32 throughout, on one thread."""

    def __init__(self, file: Path, context: int = 128) -> None:
        import xllamacpp

        asked = xllamacpp.CommonParams()
        asked.model.path = str(file)
        asked.n_ctx = asked.n_batch = asked.n_ubatch = context
        asked.n_parallel = 1
        asked.n_gpu_layers = 0
        asked.warmup = asked.fit_params = False
        asked.verbosity = -1
        asked.cache_ram_mib = 0
        asked.use_jinja = True
        asked.cache_type_k = asked.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        asked.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
        asked.port = 0
        self._server = xllamacpp.Server(asked)

    def ids(self, text: str, *, special: bool = False, parse: bool = False) -> list[int]:
        """``special``: with what llama.cpp puts before a text; ``parse``: special tokens that are spelt count."""
        return self._post("/tokenize", content=text, add_special=special, parse_special=parse)["tokens"]

    def text(self, ids: Sequence[int]) -> str:
        return self._post("/detokenize", tokens=list(ids))["content"]

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        asked = {"n_predict": count, "temperature": 0, "samplers": ["temperature"], "cache_prompt": False}
        return self._post("/completion", prompt=list(ids), return_tokens=True, **asked)["tokens"]

    def logprobs(self, ids: Sequence[int], among: int) -> dict[int, float]:
        """Of the next token, the likeliest ones; what is told is told of a token that makes text, so one is forced."""
        asked = {"n_predict": 1, "temperature": 1.0, "samplers": ["temperature"], "logit_bias": [[ids[-1], 1000.0]]}
        found = self._post("/completion", prompt=list(ids), n_probs=among, **asked)
        first = found["completion_probabilities"][0]
        return {one["id"]: one["logprob"] for one in first["top_logprobs"]}

    def rendered(self, messages: Sequence[dict[str, str]]) -> str:
        return self._post("/apply-template", messages=list(messages))["prompt"]

    def _post(self, route: str, **body: Any) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(
            self._server.listening_address + route, data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
