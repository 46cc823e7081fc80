"""Supervised fine-tuning: the mean negative log-probability of the assistant's tokens, given all that stands before.

As in InstructGPT's first step (Ouyang et al. 2022, arXiv:2203.02155, section 3.5) with the loss on answers only. The
end token that closes an answer is part of it: a model that is never taught to end does not stop. Every answer token of
the whole batch weighs the same, however the batch is cut into microbatches or ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmgraft import chat
from lmgraft.errors import Problem, UserError
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Batch, Example, Loss
from lmgraft.seams.tokenizer import TextTokenizer

from lmgraft_sft.plugin import SFTConfig

__all__ = ["SFT"]


class SFT:
    """Implements :class:`lmgraft.seams.objective.Objective`."""

    asks = frozenset({"logprob", "greedy"})

    def __init__(self, config: SFTConfig) -> None:
        self._template = config.template
        self._stops: tuple[int, ...] | None = None

    def columns(self) -> frozenset[str]:
        return frozenset({"messages"})

    def chat_template(self, tokenizer: TextTokenizer) -> str:
        """The Jinja source that :meth:`encode` writes chats with; the finished model carries it.

        :raises UserError: ``template`` is null and the tokenizer has none.
        """
        if self._template is not None:
            return chat.source(self._template)
        if tokenizer.chat_template is None:
            cause = "template is null, which takes the tokenizer's own, and the model's tokenizer has none"
            raise UserError(Problem("sft has no chat template", cause, "set the objective's template=solar"))
        return tokenizer.chat_template

    def encode(self, document: Document, tokenizer: TextTokenizer) -> list[Example]:
        """The chat as one sequence; only the assistant's turns weigh.

        :raises UserError: it holds no answer, or an empty one, or the template cannot write it.
        """
        answers = [m for m in document.messages or () if m.get("role") == "assistant"]
        if not answers or not all(str(answer.get("content") or "").strip() for answer in answers):
            cause = "an assistant's message is empty" if answers else "no message of it is the assistant's"
            remedy = "take the row out, or let the filter length do it: min_answer_chars=1"
            raise UserError(Problem(f"row {document.id!r} has no answer to learn", cause, remedy))
        template = self.chat_template(tokenizer)
        try:
            tokens, weights = chat.encode_chat(document.messages or (), tokenizer, template)
        except UserError as error:
            row = f"row {document.id!r}"
            raise UserError([Problem(f"{row}: {p.fact}", p.cause, p.remedy) for p in error.problems]) from error
        learnt = [token for token, weight in zip(tokens, weights, strict=True) if weight]
        if not learnt or not self._ends(learnt[-1], tokenizer, template):
            what = "closes no answer with the end token or a special one" if learnt else "writes nothing of its answers"
            cause = "the model would never learn to stop" if learnt else "there is nothing to learn"
            remedy = "let the template write {{ eos_token }} after each assistant's message, or set template=solar"
            raise UserError(Problem(f"row {document.id!r}: the chat template {what}", cause, remedy))
        return [Example(tokens=tokens, weights=weights)]

    def _ends(self, token: int, tokenizer: TextTokenizer, template: str) -> bool:
        """Generation stops at ``token``: the end, or the special token with which the template closes answers."""
        if token == tokenizer.end_id:
            return True
        if self._stops is None:  # one objective encodes with one tokenizer
            self._stops = chat.stop_ids(tokenizer, template)
        return token in self._stops

    def normalizers(self, batch: Batch) -> dict[str, float]:
        """``answers``: the number of answer tokens."""
        return {"answers": float(_weights(batch).double().sum())}

    def loss(self, out: Outputs, batch: Batch, shared: Mapping[str, Any]) -> Loss:
        """The term ``answers``; the metric ``accuracy``: the share of answer tokens that came first in the model."""
        assert out.logprob is not None, "an engine answers what it is asked"
        assert out.greedy is not None, "an engine answers what it is asked"
        weights = _weights(batch)
        term = -(out.logprob * weights).sum()
        right = float((out.greedy * weights).sum())
        return Loss({"answers": term}, {"accuracy": (right, float(weights.sum()))})


def _weights(batch: Batch) -> Any:
    """Where there is no target nothing counts, whatever its weight."""
    return batch.weights * (batch.targets >= 0)
