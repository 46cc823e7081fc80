"""Models of a Hugging Face folder: safetensors only, no code of the folder is run, nothing is downloaded.

Texts go through the model one at a time, so that no padding moves a score and batches do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lmgraft.errors import Problem, UserError

from lmgraft_classifiers.plugin import QualityConfig, ToxicityConfig

__all__ = ["embedder", "toxic_scorer"]


def toxic_scorer(config: ToxicityConfig) -> Callable[[Sequence[str]], list[float]]:
    """Texts -> probabilities of the worst of the labels ``toxic``; of a long text the worst piece counts.

    Labels that exclude one another are turned to probabilities by softmax, those that do not
    (``problem_type: multi_label_classification``, or a single label) by the logistic function.

    :raises UserError: the folder holds no such model, or no such label.
    """
    import torch

    key = "toxicity.checkpoint"
    tokenizer, model = _opened(config.checkpoint, "AutoModelForSequenceClassification", key)
    names = {str(name).lower(): index for index, name in model.config.id2label.items()}
    chosen = [names[name.lower()] for name in config.toxic if name.lower() in names]
    if not chosen:
        cause = f"its labels are {', '.join(map(str, model.config.id2label.values()))}"
        remedy = "name those that mean toxic in toxicity.toxic"
        raise UserError(Problem(f"{key}: {config.checkpoint} has none of {', '.join(config.toxic)}", cause, remedy))
    apart = len(names) == 1 or model.config.problem_type == "multi_label_classification"

    def score(text: str) -> float:
        worst = 0.0
        for ids in _pieces(tokenizer, model, text, config.max_tokens):
            logits = model(input_ids=torch.tensor([ids])).logits[0].double()
            found = torch.sigmoid(logits) if apart else torch.softmax(logits, dim=0)
            worst = max(worst, float(found[chosen].max()))
        # The last digits may depend on the number of threads.
        return round(worst, 5)

    def scores(texts: Sequence[str]) -> list[float]:
        with torch.inference_mode():
            return [score(text) for text in texts]

    return scores


def embedder(config: QualityConfig) -> Callable[[Sequence[str]], npt.NDArray[np.float64]]:
    """Texts -> the mean of the last hidden states of each text's first ``max_tokens`` tokens, one row each.

    :raises UserError: the folder holds no such model.
    """
    import torch

    tokenizer, model = _opened(config.embedding, "AutoModel", "quality_classifier.embedding")
    width = int(model.config.hidden_size)

    def embedded(text: str) -> npt.NDArray[np.float64]:
        ids = _pieces(tokenizer, model, text, config.max_tokens)[0]
        if not ids:
            return np.zeros(width)
        states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        return np.asarray(np.round(states.double().mean(dim=0).numpy(), 4))

    def rows(texts: Sequence[str]) -> npt.NDArray[np.float64]:
        with torch.inference_mode():
            return np.array([embedded(text) for text in texts]).reshape(-1, width)

    return rows


def _opened(path: str | None, kind: str, key: str) -> tuple[Any, Any]:
    folder = Path(path or "")
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.ckpt"))
        cause = "its weights are a pickle, which may run anything" if pickled else "it holds no file *.safetensors"
        remedy = "save it with transformers' save_pretrained(FOLDER), which writes safetensors"
        raise UserError(Problem(f"{key}: {folder} is no model that can be opened", cause, remedy))
    import transformers

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _silence():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
            model = getattr(transformers, kind).from_pretrained(folder, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        fact = f"{key}: {folder} cannot be opened"
        raise UserError(Problem(fact, str(error), "save model and tokenizer with save_pretrained(FOLDER)")) from error
    return tokenizer, model.float().eval()


@contextmanager
def _silence() -> Iterator[None]:
    """Opening a model draws bars and lists what the folder holds beside it; neither belongs into a run's output."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _pieces(tokenizer: Any, model: Any, text: str, tokens: int) -> list[list[int]]:
    """The text's tokens, at most so many in a piece, each piece with what the model wants around it."""
    limit = min(tokens, getattr(model.config, "max_position_embeddings", None) or tokens)
    found = tokenizer(text, truncation=True, max_length=limit, return_overflowing_tokens=True)["input_ids"]
    return found if found and isinstance(found[0], list) else [found]
