"""Loss, rewards and gradients are those of TRL's own trainer, on the same pairs, weights and reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lmgraft.artifacts import corpus, reference
from lmgraft.artifacts.tokenizer import SavedTokenizer
from lmgraft.seams.data_source import Document
from lmgraft_dpo.objective import DPO
from lmgraft_dpo.plugin import DPOConfig, LossType

transformers = pytest.importorskip("transformers")
trl = pytest.importorskip("trl")

#: The loss, and the gradient of each parameter.
Found = tuple[float, dict[str, torch.Tensor]]

END, PAD = "<|endoftext|>", "<|pad|>"
#: Uneven: a mean of the microbatches' means is another figure.
MICROBATCHES = [[0, 1, 2], [3], [4]]
PAIRS = [
    ("Two and two?", "Four.", "Five, I should think, or so."),
    ("A colour?", "Blue", "2"),
    ("Say it twice.", "it it", "it"),
    ("Well?", "A longer answer with a comma, and a full stop.", "No"),
    ("?", "!", "A long answer to a short question that asks for none."),
]
#: Every answer is nine tokens long, its end token included.
EVEN = [
    ("Two and two?", "It is 4.", "Five, no"),
    ("A colour?", "The blue", "Numbers."),
    ("Say it twice.", "it or it", "it it it"),
    ("Well?", "Not now.", "Shall we"),
    ("?", "!!!!!!!!", "a, b, c."),
]
LENGTH = 9


def documents(pairs: list[tuple[str, str, str]]) -> list[Document]:
    return [
        Document(id=str(n), prompt=prompt, chosen=chosen, rejected=rejected)
        for n, (prompt, chosen, rejected) in enumerate(pairs)
    ]


@pytest.fixture(scope="module")
def other(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference: the same shape with other weights, so that no difference of log-probabilities is zero."""
    folder = tmp_path_factory.mktemp("reference")
    torch.manual_seed(1)
    config = transformers.LlamaConfig.from_pretrained(llama)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def scored(model: Path, objective: DPO, saved: SavedTokenizer) -> Callable[[Path], Path]:
    """A reference as a score stage writes it, its figures worked out by transformers."""

    def make(folder: Path) -> Path:
        network = transformers.LlamaForCausalLM.from_pretrained(model)
        rows = []
        for document in corpus.documents(folder, "train"):
            for example in objective.encode(document, saved):
                ids, weights = torch.tensor([example.tokens]), torch.tensor(example.weights)
                with torch.no_grad():
                    logprob = network(ids).logits[0, :-1].double().log_softmax(-1)
                sums = (logprob.gather(-1, ids[0, 1:, None])[:, 0] * weights[1:]).sum()
                rows.append((document.id, example.role, reference.digest(example.tokens, example.weights), float(sums)))
        out = folder.parent / "reference"
        out.mkdir()
        columns = [
            pa.array(column, field.type)
            for column, field in zip(zip(*rows, strict=True), reference.SCHEMA, strict=True)
        ]
        pq.write_table(pa.table(columns, schema=reference.SCHEMA), out / "train.parquet")
        reference.ReferenceInfo(saved.fingerprint(), "", {"train": len(rows)}).write(out)
        return out

    return make


@dataclass
class Scene:
    """One batch of pairs, through TRL's trainer and through ours."""

    encoded: Any
    engine: Any
    llama: Path
    other: Path
    vocabulary: Path
    saved: SavedTokenizer
    folder: Path

    def theirs(self, rows: list[Document], objective: DPO, **settings: Any) -> Found:
        """TRL's trainer on the whole batch: its loss, and the gradient it leaves."""
        from datasets import Dataset

        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(self.vocabulary / "tokenizer.json"), bos_token=END, eos_token=END, pad_token=PAD
        )
        arguments = trl.DPOConfig(
            output_dir=str(self.folder / "trl"), per_device_train_batch_size=len(rows), report_to=[], use_cpu=True,
            bf16=False, max_length=None, disable_dropout=True, gradient_checkpointing=False, **settings,
        )  # fmt: skip
        trainer = trl.DPOTrainer(
            model=transformers.LlamaForCausalLM.from_pretrained(self.llama),
            ref_model=transformers.LlamaForCausalLM.from_pretrained(self.other),
            args=arguments,
            train_dataset=Dataset.from_list([self._texts(document, objective) for document in rows]),
            processing_class=tokenizer,
        )
        batch = next(iter(trainer.get_train_dataloader()))
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        lengths = sorted(int(mask.sum()) for mask in batch["completion_mask"])
        sides = [example for document in rows for example in objective.encode(document, self.saved)]
        assert lengths == sorted(int(sum(side.weights)) for side in sides), "both judge the same tokens"
        return float(loss.detach()), {name: parameter.grad for name, parameter in trainer.model.named_parameters()}

    def _texts(self, document: Document, objective: DPO) -> dict[str, str]:
        chosen, rejected = objective.encode(document, self.saved)
        start = chosen.weights.index(1.0)
        # TRL closes each answer with the end token by itself.
        texts = (chosen.tokens[:start], chosen.tokens[start:-1], rejected.tokens[start:-1])
        return dict(zip(("prompt", "chosen", "rejected"), map(self.saved.decode, texts), strict=True))

    def ours(self, rows: list[Document], objective: DPO) -> Found:
        examples = self.encoded(objective, rows, scored(self.other, objective, self.saved))
        engine = self.engine(self.llama, objective)
        stats = engine.forward_backward([examples.batch(np.array(units)) for units in MICROBATCHES])
        return stats.loss, {name: parameter.grad for name, parameter in engine._module.named_parameters()}


@pytest.fixture
def scene(
    encoded: Any, engine: Any, llama: Path, other: Path, vocabulary: Path, saved: SavedTokenizer, tmp_path: Path
) -> Scene:
    return Scene(encoded, engine, llama, other, vocabulary, saved, tmp_path)


def compare(ours: Found, theirs: Found, scale: float = 1.0) -> None:
    """Ours is ``scale`` times theirs."""
    assert ours[0] == pytest.approx(scale * theirs[0], rel=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        wanted = scale * gradient
        assert float((ours[1][name] - wanted).abs().max() / wanted.abs().max()) < 1e-5, name


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_loss_and_gradients_are_trls(beta: float, scene: Scene) -> None:
    rows, objective = documents(PAIRS), DPO(DPOConfig(beta=beta))
    theirs = scene.theirs(rows, objective, beta=beta)
    assert abs(theirs[0] - math.log(2)) > 0.01, "the two models differ"
    compare(scene.ours(rows, objective), theirs)


def test_label_smoothing_is_what_trls_losses_make_up(scene: Scene) -> None:
    # With A and B the losses of a pair as it stands and turned round, TRL's `robust` is ((1 - e) A - e B) / (1 - 2e).
    beta, e = 0.3, 0.2
    rows, objective = documents(PAIRS), DPO(DPOConfig(beta=beta, label_smoothing=e))
    weights = [2 * (1 - e), -(1 - 2 * e)]
    theirs = scene.theirs(
        rows, objective, beta=beta, label_smoothing=e, loss_type=["sigmoid", "robust"], loss_weights=weights
    )
    compare(scene.ours(rows, objective), theirs)


def test_ipo_is_trls_where_all_answers_are_equally_long(scene: Scene) -> None:
    # TRL takes the mean over an answer's tokens: (h / L - 1 / (2 beta))^2, which is ours of beta / L over L^2.
    beta = 0.2
    rows, objective = documents(EVEN), DPO(DPOConfig(beta=beta / LENGTH, loss=LossType.ipo))
    theirs = scene.theirs(rows, objective, beta=beta, loss_type="ipo")
    compare(scene.ours(rows, objective), theirs, scale=LENGTH**2)
