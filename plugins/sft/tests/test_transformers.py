"""Loss and gradients are those of a plain loop over transformers' own model, tokens of transformers' own tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmgraft import chat
from lmgraft.seams.data_source import Document
from lmgraft_sft.objective import SFT
from lmgraft_sft.plugin import SFTConfig

transformers = pytest.importorskip("transformers")

END = "<|endoftext|>"
QUESTIONS = ["Two and two?", "Name a colour, please, any that you like.", "Hm?", "?", "Say it twice", "Is it so?"]
ANSWERS = [
    "Four.",
    "Blue",
    "A much longer answer than all of the others, with a comma and a full stop.",
    "!",
    "it",
    "No",
]
#: Uneven in rows, and more so in answer tokens: a mean of the microbatches' means is far off.
MICROBATCHES = [[0, 1, 3], [2], [4, 5]]


def talk(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": QUESTIONS[number]}, {"role": "assistant", "content": ANSWERS[number]}]


def labelled(tokenizer: Any, units: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, mask, labels) with -100 on prompts and padding, padded at the right."""
    ids, labels = [], []
    for number in units:
        settings = {"tokenize": True, "return_dict": False, "chat_template": chat.TEMPLATES["solar"]}
        prompt = tokenizer.apply_chat_template(talk(number)[:1], add_generation_prompt=True, **settings)
        whole = tokenizer.apply_chat_template(talk(number), **settings)
        assert whole[: len(prompt)] == prompt
        ids.append(torch.tensor(whole))
        labels.append(torch.tensor([-100] * len(prompt) + whole[len(prompt) :]))
    pad = torch.nn.utils.rnn.pad_sequence
    mask = pad([torch.ones(len(row), dtype=torch.int64) for row in ids], batch_first=True)
    return (
        pad(ids, batch_first=True, padding_value=tokenizer.pad_token_id),
        mask,
        pad(labels, batch_first=True, padding_value=-100),
    )


def plain_loop(folder: Path, tokenizer: Any) -> tuple[float, dict[str, torch.Tensor]]:
    model = transformers.LlamaForCausalLM.from_pretrained(folder).float()
    batches = [labelled(tokenizer, units) for units in MICROBATCHES]
    count = sum(int((labels[:, 1:] >= 0).sum()) for _, _, labels in batches)
    loss = 0.0
    for ids, mask, labels in batches:
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        answers = labels[:, 1:].reshape(-1)
        total = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), answers, ignore_index=-100, reduction="sum"
        )
        (total / count).backward()
        loss += float(total.detach()) / count
    return loss, {name: parameter.grad for name, parameter in model.named_parameters()}


def test_loss_and_gradients_are_a_plain_transformers_loops(
    encoded: Any, engine: Any, llama: Path, vocabulary: Path
) -> None:
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(vocabulary / "tokenizer.json"), bos_token=END, eos_token=END, pad_token="<|pad|>"
    )
    loss, gradients = plain_loop(llama, theirs)
    objective = SFT(SFTConfig())
    rows = encoded(objective, [Document(id=str(n), messages=talk(n)) for n in range(len(QUESTIONS))])
    ours = engine(llama, objective)
    stats = ours.forward_backward([rows.batch(np.array(units)) for units in MICROBATCHES])
    assert stats.loss == pytest.approx(loss, rel=1e-6)
    found = dict(ours._module.named_parameters())
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        apart = (found[name].grad - gradient).abs().max() / gradient.abs().max()
        assert float(apart) < 1e-5, name
