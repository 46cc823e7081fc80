"""Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290, equation 7).

With y_w the chosen and y_l the rejected answer, log-probabilities summed over an answer's tokens (its end token too)::

    h    = (log pi(y_w) - log pi(y_l)) - (log ref(y_w) - log ref(y_l))
    loss = -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h)         e: label_smoothing (Mitchell 2023, cDPO)
    ipo  = (h - 1 / (2 beta))^2                                          Azar et al. 2023, arXiv:2310.12036

``ipo`` takes summed log-probabilities too, as the paper and the DPO authors' code do; TRL divides them by the answer's
length. The reference never runs here: a ``score`` stage has computed its sums once, and they come as the value
``reference`` of each sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lmgraft import chat
from lmgraft.errors import Problem, UserError
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Batch, Example, Loss
from lmgraft.seams.tokenizer import TextTokenizer
from torch.nn import functional

from lmgraft_dpo.plugin import DPOConfig, LossType

__all__ = ["DPO"]

CHOSEN, REJECTED = 0, 1
NAMES = {CHOSEN: "chosen", REJECTED: "rejected"}


class DPO:
    """Implements :class:`lmgraft.seams.objective.Objective`."""

    asks = frozenset({"logprob"})

    def __init__(self, config: DPOConfig) -> None:
        self._config = config

    def columns(self) -> frozenset[str]:
        return frozenset({"chosen", "rejected"})

    def values(self) -> frozenset[str]:
        return frozenset({"reference"})

    def chat_template(self, tokenizer: TextTokenizer) -> str:
        """The Jinja source that prompts and answers are written with.

        :raises UserError: ``template`` is null and the tokenizer has none.
        """
        if self._config.template is not None:
            return chat.source(self._config.template)
        if tokenizer.chat_template is None:
            cause = "template is null, which takes the tokenizer's own, and the model's tokenizer has none"
            raise UserError(Problem("dpo has no chat template", cause, "set the objective's template=solar"))
        return tokenizer.chat_template

    def encode(self, document: Document, tokenizer: TextTokenizer) -> list[Example]:
        """The pair as two sequences of one unit: role 0 the chosen answer, role 1 the rejected one.

        :raises UserError: a side is empty, or both are the same, or the template cannot write them.
        """
        _check(document)
        template = self.chat_template(tokenizer)
        try:
            return [
                _example(document, answer, role, tokenizer, template)
                for role, answer in ((CHOSEN, document.chosen), (REJECTED, document.rejected))
            ]
        except UserError as error:
            row = f"row {document.id!r}"
            raise UserError([Problem(f"{row}: {p.fact}", p.cause, p.remedy) for p in error.problems]) from error

    def normalizers(self, batch: Batch) -> dict[str, float]:
        """``pairs``: the number of pairs."""
        return {"pairs": float(len(_pairs(batch)[0]))}

    def loss(self, out: Outputs, batch: Batch, shared: Mapping[str, Any]) -> Loss:
        """The term ``pairs``. Metrics: ``accuracy`` (the implicit reward of the chosen answer is the higher one; ties
        count half), ``margin`` between the implicit rewards, and both of these (beta * (log pi - log ref))."""
        assert out.logprob is not None, "an engine answers what it is asked"
        config = self._config
        chosen, rejected = _pairs(batch)
        policy = (out.logprob * batch.weights * (batch.targets >= 0)).sum(1)
        gain = policy - batch.values["reference"].to(policy)
        margin = gain[chosen] - gain[rejected]
        if config.loss is LossType.ipo:
            losses = (margin - 1 / (2 * config.beta)) ** 2
        else:
            logits = config.beta * margin
            losses = -functional.logsigmoid(logits) * (1 - config.label_smoothing)
            losses = losses - functional.logsigmoid(-logits) * config.label_smoothing
        count = float(len(chosen))
        with torch.no_grad():
            right = float((margin > 0).double().sum() + 0.5 * (margin == 0).double().sum())
            rewards = [config.beta * float(part.double().sum()) for part in (gain[chosen], gain[rejected])]
        metrics = {
            "accuracy": (right, count),
            "margin": (rewards[0] - rewards[1], count),
            "reward_chosen": (rewards[0], count),
            "reward_rejected": (rewards[1], count),
        }
        return Loss({"pairs": losses.sum()}, metrics)


def _example(document: Document, answer: str | None, role: int, tokenizer: TextTokenizer, template: str) -> Example:
    before = document.messages or [{"role": "user", "content": document.prompt}]
    tokens, weights = chat.encode_chat([*before, {"role": "assistant", "content": answer}], tokenizer, template)
    # Earlier answers of a conversation are the same on both sides: only the last one is judged.
    start = len(chat.encode_prompt(before, tokenizer, template))
    judged = [0.0] * start + weights[start:]
    if not any(judged):
        cause = "the chat template writes nothing of it"
        raise UserError(Problem(f"the {NAMES[role]} answer has no tokens", cause, "set the objective's template=solar"))
    return Example(tokens, judged, role)


def _check(document: Document) -> None:
    remedy = "take the row out of the pairs"
    missing = [name for name in ("chosen", "rejected") if not (getattr(document, name) or "").strip()]
    if not document.messages and not (document.prompt or "").strip():
        missing.insert(0, "prompt")
    if missing:
        fact = f"row {document.id!r} has no {' and no '.join(missing)}"
        cause = "a preference pair is a prompt with a chosen and a rejected answer"
        raise UserError(Problem(fact, cause, f"{remedy}, or let the filter length do it: min_answer_chars=1"))
    if (document.chosen or "").strip() == (document.rejected or "").strip():
        cause = "there is nothing to prefer, and its gradient is zero"
        raise UserError(Problem(f"row {document.id!r}: chosen and rejected are the same", cause, remedy))


def _pairs(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (pairs,) of the chosen and of the rejected answers, in the order of their units; padding belongs to none."""
    assert batch.unit is not None, "pairs come with the units they belong to"
    assert batch.role is not None, "pairs come with the roles of their sequences"
    sides = []
    for role in (CHOSEN, REJECTED):
        rows = ((batch.role == role) & (batch.unit >= 0)).nonzero()[:, 0]
        sides.append(rows[batch.unit[rows].argsort()])
    assert torch.equal(batch.unit[sides[0]], batch.unit[sides[1]]), "a unit is never split"
    return sides[0], sides[1]
