"""Loss, rewards and gradients are those of TRL's own trainer, on the same pairs, weights and reference."""

from __future__ import annotations

from collections.abc import Callable
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
from lmgraft_dpo.plugin import DPOConfig

transformers = pytest.importorskip("transformers")
trl = pytest.importorskip("trl")

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
DOCUMENTS = [
    Document(id=str(n), prompt=prompt, chosen=chosen, rejected=rejected)
    for n, (prompt, chosen, rejected) in enumerate(PAIRS)
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


def theirs(
    llama: Path, other: Path, vocabulary: Path, saved: SavedTokenizer, objective: DPO, folder: Path, **settings: Any
) -> tuple[float, dict[str, torch.Tensor]]:
    """TRL's trainer on the whole batch: its loss, and the gradient it leaves."""
    from datasets import Dataset

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(vocabulary / "tokenizer.json"), bos_token=END, eos_token=END, pad_token=PAD
    )
    rows = []
    for document in DOCUMENTS:
        chosen, rejected = objective.encode(document, saved)
        start = chosen.weights.index(1.0)
        # TRL closes each answer with the end token by itself.
        texts = (chosen.tokens[:start], chosen.tokens[start:-1], rejected.tokens[start:-1])
        rows.append(dict(zip(("prompt", "chosen", "rejected"), map(saved.decode, texts), strict=True)))
    arguments = trl.DPOConfig(
        output_dir=str(folder), per_device_train_batch_size=len(rows), report_to=[], use_cpu=True, bf16=False,
        max_length=None, disable_dropout=True, gradient_checkpointing=False, **settings,
    )  # fmt: skip
    trainer = trl.DPOTrainer(
        model=transformers.LlamaForCausalLM.from_pretrained(llama),
        ref_model=transformers.LlamaForCausalLM.from_pretrained(other),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    lengths = sorted(int(mask.sum()) for mask in batch["completion_mask"])
    ours = sorted(int(sum(example.weights)) for document in DOCUMENTS for example in objective.encode(document, saved))
    assert lengths == ours, "both judge the same tokens"
    return float(loss.detach()), {name: parameter.grad for name, parameter in trainer.model.named_parameters()}


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_loss_and_gradients_are_trls(
    beta: float,
    encoded: Any,
    engine: Any,
    llama: Path,
    other: Path,
    vocabulary: Path,
    saved: SavedTokenizer,
    tmp_path: Path,
) -> None:
    objective = DPO(DPOConfig(beta=beta))
    loss, gradients = theirs(llama, other, vocabulary, saved, objective, tmp_path / "trl", beta=beta)
    rows = encoded(objective, DOCUMENTS, scored(other, objective, saved))
    ours = engine(llama, objective)
    stats = ours.forward_backward([rows.batch(np.array(units)) for units in MICROBATCHES])
    assert abs(loss - 0.6931) > 0.01, "the two models differ"
    assert stats.loss == pytest.approx(loss, rel=1e-5)
    found = dict(ours._module.named_parameters())
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert float((found[name].grad - gradient).abs().max() / gradient.abs().max()) < 1e-5, name
