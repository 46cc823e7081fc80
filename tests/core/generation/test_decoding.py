"""Texts that are written together, over a model that remembers all it has read: one wrong token, position, row or cache
changes everything after it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from lmgraft.generation import decoding
from lmgraft.generation.decoding import TextBatch
from lmgraft.seams.architecture import RowCache
from lmgraft.seams.parallelism import Decoding, Sampling

V, CONTEXT = 40, 24


@dataclass
class Read:
    """A cache whose rows are what each has read."""

    rows: list[list[int]]

    def select(self, rows: Sequence[int]) -> Read:
        return Read([self.rows[row] for row in rows])

    def join(self, other: Read) -> Read:
        return Read(self.rows + other.rows)


class Model:
    """Logits that depend on every token read. ``kind``: rows (a RowCache), state (any other cache), none."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, tokens: torch.Tensor, positions: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        self.shapes.append(tuple(tokens.shape))
        assert tokens.shape == positions.shape
        if cache is None:
            read = [[] for _ in tokens]
        else:
            read = [list(row) for row in (cache.rows if self.kind == "rows" else cache)]
        assert len(read) == len(tokens)
        for row, new, places in zip(read, tokens.tolist(), positions.tolist(), strict=True):
            assert places == list(range(len(row), len(row) + len(new)))
            row += new
            assert len(row) <= CONTEXT
        logits = torch.stack([self._logits(row) for row in read])
        return logits, {"rows": Read(read), "state": read, "none": None}[self.kind]

    @staticmethod
    def _logits(row: list[int]) -> torch.Tensor:
        seed = int.from_bytes(hashlib.sha256(bytes(row)).digest()[:6], "big")
        return torch.randn(V, generator=torch.Generator().manual_seed(seed)) * 2


every = pytest.mark.parametrize("kind", ["rows", "state", "none"])
SETTINGS = [
    Sampling(max_new_tokens=9, temperature=0),
    Sampling(max_new_tokens=7, temperature=1.0, seed=5),
    Sampling(max_new_tokens=20, temperature=0.7, top_k=5, seed=6),
    Sampling(max_new_tokens=20, temperature=1.3, top_p=0.8, seed=7, stop_ids=(3, 4, 5, 6)),
    Sampling(max_new_tokens=12, temperature=0, repetition_penalty=3.0),
    Sampling(max_new_tokens=100, temperature=0.9, top_p=0.9, top_k=30, repetition_penalty=1.5, seed=8),
]
PROMPTS = [[1], [2, 3, 4], [5] * 7, [9, 8, 7], list(range(12)), [6, 6, 6]]


def alone(kind: str, prompt: Sequence[int], sampling: Sampling) -> list[int]:
    texts = TextBatch(Model(kind), CONTEXT)
    texts.add(prompt, sampling)
    made = []
    while len(texts):
        [(number, token, last)] = texts.step()
        assert number == 0
        made.append(token)
        assert last == (len(texts) == 0)
    return made


def expected() -> list[list[int]]:
    return [alone("none", prompt, sampling) for prompt, sampling in zip(PROMPTS, SETTINGS, strict=True)]


def test_the_toy_is_what_it_says() -> None:
    assert isinstance(Read([]), RowCache)
    assert isinstance(TextBatch(Model("none"), CONTEXT), Decoding)
    assert len({tuple(text) for text in expected()}) == len(PROMPTS)


@every
def test_a_text_is_the_same_alone_and_beside_others(kind: str) -> None:
    texts = TextBatch(Model(kind), CONTEXT)
    made: dict[int, list[int]] = {
        texts.add(prompt, sampling): [] for prompt, sampling in zip(PROMPTS, SETTINGS, strict=True)
    }
    ended: set[int] = set()
    while len(texts):
        under_way = len(texts)
        told = texts.step()
        assert len(told) == under_way
        assert [number for number, _, _ in told] == sorted(set(made) - ended)
        for number, token, last in told:
            made[number].append(token)
            ended |= {number} if last else set()
    assert list(made.values()) == expected()
    assert texts.step() == []


@every
@pytest.mark.parametrize("seed", range(6))
def test_coming_and_going_at_any_time_changes_no_text(kind: str, seed: int) -> None:
    choose = random.Random(seed)
    texts, wanted = TextBatch(Model(kind), CONTEXT), expected()
    which: dict[int, int] = {}
    made: dict[int, list[int]] = {}
    removed: set[int] = set()
    for _ in range(60):
        if choose.random() < 0.4:
            index = choose.randrange(len(PROMPTS))
            number = texts.add(PROMPTS[index], SETTINGS[index])
            which[number], made[number] = index, []
        if choose.random() < 0.15 and which:
            number = choose.choice(list(which))
            texts.remove(number)
            removed.add(number)
        for number, token, _ in texts.step():
            assert number not in removed or len(made[number]) == len(wanted[which[number]])
            made[number].append(token)
    while len(texts):
        for number, token, _ in texts.step():
            made[number].append(token)
    for number, text in made.items():
        whole = wanted[which[number]]
        assert text == (whole[: len(text)] if number in removed else whole)


def test_texts_under_way_are_one_pass_and_prompts_of_one_length_too() -> None:
    model = Model("rows")
    texts = TextBatch(model, CONTEXT)
    for prompt in ([1, 2], [3, 4], [5, 6, 7]):
        texts.add(prompt, Sampling(max_new_tokens=4, temperature=0))
    texts.step()
    assert model.shapes == [(2, 2), (1, 3)]
    texts.step()
    assert model.shapes[2:] == [(3, 1)]
    late = texts.add([8], Sampling(max_new_tokens=1, temperature=0))
    assert texts.step()[-1][0] == late
    assert model.shapes[3:] == [(3, 1), (1, 1)]
    texts.step()
    assert model.shapes[5:] == [(3, 1)]  # the late one has left


@pytest.mark.parametrize(("kind", "shapes"), [("rows", [(1, 8), (1, 8), (1, 4)]), ("none", [(1, 8), (1, 20)])])
def test_a_long_prompt_is_read_in_pieces(
    kind: str, shapes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = [int(token) for token in torch.randint(0, V, (20,), generator=torch.Generator().manual_seed(0))]
    whole = alone(kind, prompt, SETTINGS[1])
    monkeypatch.setattr(decoding, "PASS_TOKENS", 8)
    model = Model(kind)
    texts = TextBatch(model, CONTEXT)
    texts.add(prompt, SETTINGS[1])
    assert texts.step()[0][1] == whole[0]
    assert model.shapes == shapes
    assert alone(kind, prompt, SETTINGS[1]) == whole


def test_passes_over_prompts_stay_within_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PASS_TOKENS", 8)
    model = Model("rows")
    texts = TextBatch(model, CONTEXT)
    for first in range(5):
        texts.add([first, 1, 2], SETTINGS[0])
    assert len(texts.step()) == 5
    assert model.shapes == [(2, 3), (2, 3), (1, 3)]


def test_ends() -> None:
    free = alone("rows", [1, 2], Sampling(max_new_tokens=100, temperature=0))
    assert len(free) == CONTEXT - 2 + 1  # the last one is only predicted
    stop = alone("rows", [1, 2], Sampling(max_new_tokens=100, temperature=0, stop_ids=(free[4],)))
    assert stop == free[: free.index(free[4]) + 1]
    assert alone("rows", [1, 2], Sampling(max_new_tokens=3, temperature=0)) == free[:3]
    assert alone("rows", [1, 2], Sampling(max_new_tokens=0)) == []


def test_a_removed_text_says_nothing_and_may_be_removed_again() -> None:
    texts = TextBatch(Model("rows"), CONTEXT)
    first, second = texts.add([1], SETTINGS[0]), texts.add([2], SETTINGS[0])
    texts.remove(first)  # before it has been read
    assert [number for number, _, _ in texts.step()] == [second]
    texts.remove(second)
    texts.remove(second)
    assert len(texts) == 0
    assert texts.step() == []


@pytest.mark.parametrize("prompt", [[], [1] * (CONTEXT + 1)])
def test_a_prompt_without_a_token_or_without_room_is_refused(prompt: list[int]) -> None:
    texts = TextBatch(Model("rows"), CONTEXT)
    with pytest.raises(ValueError, match=f"a prompt of {len(prompt)} ids"):
        texts.add(prompt, SETTINGS[0])
    assert len(texts) == 0
