"""What a pair becomes, which pairs are refused, the losses by hand, and sums that no split or order changes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmgraft import chat
from lmgraft.artifacts.tokenizer import SavedTokenizer
from lmgraft.errors import UserError
from lmgraft.seams.architecture import Outputs
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Batch, Objective
from lmgraft.training.loader import NOTHING
from lmgraft_dpo.objective import DPO
from lmgraft_dpo.plugin import DPOConfig, LossType, lmgraft_objective

END = "<|endoftext|>"


def pair(name: str, prompt: str | None, chosen: str | None, rejected: str | None, **more: Any) -> Document:
    return Document(id=name, prompt=prompt, chosen=chosen, rejected=rejected, **more)


PAIRS = [
    pair("a", "Two and two?", "Four.", "Five, or so it seems to me."),
    pair("b", "Name a colour, please.", "Blue", "7"),
    pair("c", "Hm?", "A longer answer than the others, with a comma.", "No."),
    pair("d", "?", "!", "?!"),
]


def learnt(saved: SavedTokenizer, objective: DPO, document: Document) -> list[str]:
    return [
        saved.decode([token for token, weight in zip(example.tokens, example.weights, strict=True) if weight])
        for example in objective.encode(document, saved)
    ]


def test_it_is_an_objective() -> None:
    assert isinstance(DPO(DPOConfig()), Objective)
    (component,) = lmgraft_objective()
    assert len(component.summary) <= 72
    assert DPO(DPOConfig()).asks == {"logprob"}
    assert DPO(DPOConfig()).values() == {"reference"}
    assert DPOConfig().needs() == {"columns:chosen", "columns:rejected", "reference"}


def test_a_pair_is_two_sequences_of_one_prompt(saved: SavedTokenizer) -> None:
    chosen, rejected = DPO(DPOConfig()).encode(PAIRS[0], saved)
    assert (chosen.role, rejected.role) == (0, 1)
    start = chosen.weights.index(1.0)
    assert (
        chosen.tokens[:start]
        == rejected.tokens[:start]
        == chat.encode_prompt([{"role": "user", "content": "Two and two?"}], saved, chat.TEMPLATES["solar"])
    )
    assert learnt(saved, DPO(DPOConfig()), PAIRS[0]) == [f"Four.{END}", f"Five, or so it seems to me.{END}"]


def test_only_the_last_answer_of_a_conversation_is_judged(saved: SavedTokenizer) -> None:
    before = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Two and two?"},
    ]
    document = pair("t", None, "Four.", "Five.", messages=before)
    assert learnt(saved, DPO(DPOConfig()), document) == [f"Four.{END}", f"Five.{END}"]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (pair("r/1", "Well?", "Yes.", "Yes."), "row 'r/1': chosen and rejected are the same"),
        (pair("r/1b", "Well?", "Yes.", " Yes.\n"), "row 'r/1b': chosen and rejected are the same"),
        (pair("r/2", "Well?", "", "No."), "row 'r/2' has no chosen"),
        (pair("r/3", "Well?", "Yes.", " \n"), "row 'r/3' has no rejected"),
        (pair("r/4", "", "Yes.", "No."), "row 'r/4' has no prompt"),
        (pair("r/5", None, None, None), "row 'r/5' has no prompt and no chosen and no rejected"),
        (pair("r/6", None, "Yes.", "No.", messages=[{"role": "tool", "content": "?"}]), "row 'r/6': the chat template"),
    ],
)
def test_a_pair_that_prefers_nothing_is_refused_by_name(document: Document, says: str, saved: SavedTokenizer) -> None:
    with pytest.raises(UserError, match=says) as caught:
        DPO(DPOConfig()).encode(document, saved)
    assert len(str(caught.value).splitlines()) == 3


def test_a_template_that_writes_no_answer_is_refused(saved: SavedTokenizer) -> None:
    objective = DPO(DPOConfig(template="{{ messages[0]['content'] }}"))
    with pytest.raises(UserError, match="row 'a': the chosen answer has no tokens") as caught:
        objective.encode(PAIRS[0], saved)
    assert len(str(caught.value).splitlines()) == 3


def test_bad_settings_are_told() -> None:
    assert list(DPOConfig().check()) == []
    for settings in ({"beta": 0.0}, {"label_smoothing": 0.5}, {"label_smoothing": -0.1}, {"template": "sola"}):
        (problem,) = DPOConfig(**settings).check()
        assert next(iter(settings)) in str(problem)


def by_hand(reference: list[float], **settings: Any) -> tuple[float, dict[str, tuple[float, float]]]:
    """Two pairs, out of order, and a row of padding; log-probabilities -3 and -1, -2 and -4 on their answers."""
    batch = Batch(
        tokens=torch.zeros(5, 2, dtype=torch.int64),
        targets=torch.tensor([[4, 5], [6, -1], [4, 5], [7, 8], [-1, -1]]),
        weights=torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]]),
        positions=torch.arange(2).expand(5, 2),
        unit=torch.tensor([9, 9, 4, 4, -1]),
        role=torch.tensor([1, 0, 0, 1, 0]),
        values={"reference": torch.tensor([*reference, 0.0])},
    )
    logprob = torch.tensor([[-9.0, -1.0], [-3.0, -9.0], [-2.0, -9.0], [-1.5, -2.5], [-9.0, -9.0]])
    objective = DPO(DPOConfig(**settings))
    assert objective.normalizers(batch) == {"pairs": 2.0}
    loss = objective.loss(Outputs(logprob=logprob), batch, {})
    assert loss.terms.keys() == {"pairs"}
    return float(loss.terms["pairs"]), dict(loss.metrics)


def test_the_losses_by_hand() -> None:
    # gains: pair 9: chosen -3 + 2, rejected -1 + 2; pair 4: chosen -2 + 2, rejected -4 + 1. Margins -2 and 3.
    reference = [-2.0, -2.0, -2.0, -1.0]

    def soft(logit: float) -> float:
        return math.log1p(math.exp(-logit))

    loss, metrics = by_hand(reference, beta=0.5)
    assert loss == pytest.approx(soft(-1.0) + soft(1.5), rel=1e-6)
    assert metrics["accuracy"] == (1.0, 2.0)
    assert metrics["margin"] == pytest.approx((0.5, 2.0))
    assert metrics["reward_chosen"] == pytest.approx((-0.5, 2.0))
    assert metrics["reward_rejected"] == pytest.approx((-1.0, 2.0))
    smooth, _ = by_hand(reference, beta=0.5, label_smoothing=0.1)
    assert smooth == pytest.approx(0.9 * (soft(-1.0) + soft(1.5)) + 0.1 * (soft(1.0) + soft(-1.5)), rel=1e-6)
    ipo, _ = by_hand(reference, beta=0.5, loss=LossType.ipo)
    assert ipo == pytest.approx((-2 - 1) ** 2 + (3 - 1) ** 2, rel=1e-6)


def test_a_model_that_is_its_own_reference_loses_ln_2_and_ties() -> None:
    loss, metrics = by_hand([-1.0, -3.0, -2.0, -4.0])
    assert loss == pytest.approx(2 * math.log(2), abs=1e-6)
    assert metrics["accuracy"] == (1.0, 2.0)


@pytest.fixture
def reference(tmp_path: Path) -> Any:
    """A reference of made-up figures, as a score stage would write it."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from lmgraft.artifacts import corpus
    from lmgraft.artifacts import reference as kind

    def of(saved: SavedTokenizer, objective: DPO) -> Any:
        def make(folder: Path) -> Path:
            out = tmp_path / "reference"
            out.mkdir()
            rows = [
                {"document": d.id, "role": e.role, "digest": kind.digest(e.tokens, e.weights), "logprob": -20.0 - n}
                for n, d in enumerate(corpus.documents(folder, "train"))
                for e in objective.encode(d, saved)
            ]
            pq.write_table(pa.Table.from_pylist(rows, schema=kind.SCHEMA), out / "train.parquet")
            (out / kind.MANIFEST).write_text(
                json.dumps({"fingerprint": saved.fingerprint(), "corpus": "", "rows": {"train": len(rows)}})
            )
            return out

        return make

    return of


@pytest.mark.parametrize(
    "split",
    [[[3, 2, 1, 0]], [[0], [1, 2], [3]], [[2], [0], [3], [1]], [[0, NOTHING, 1], [NOTHING], [2, 3, NOTHING]]],
    ids=["order", "uneven", "single", "padding rows"],
)
def test_split_order_and_padding_change_no_gradient(
    split: list[list[int]], encoded: Any, engine: Any, llama: Path, saved: SavedTokenizer, reference: Any
) -> None:
    objective = DPO(DPOConfig())
    rows = encoded(objective, PAIRS, reference(saved, objective))
    whole, parts = engine(llama, objective), engine(llama, objective)
    one = whole.forward_backward([rows.batch(np.arange(4))])
    other = parts.forward_backward([rows.batch(np.array(units)) for units in split])
    assert other.loss == pytest.approx(one.loss, rel=1e-5)
    assert other.metrics == pytest.approx(one.metrics, rel=1e-5)
    expected = dict(whole._module.named_parameters())
    for name, parameter in parts._module.named_parameters():
        gradient = expected[name].grad
        assert float((parameter.grad - gradient).abs().max() / gradient.abs().max()) < 1e-5
