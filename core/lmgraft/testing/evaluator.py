"""The suite of seam ``evaluator``, on models whose every answer is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.evaluator import Score
from lmgraft.seams.parallelism import ModelHandle, Scored
from lmgraft.seams.tokenizer import TextTokenizer
from lmgraft.testing._scores import counts, levelled, plain, unread, unsound
from lmgraft.testing.common import PartSuite
from lmgraft.testing.difference import difference
from lmgraft.testing.elsewhere import Failed, elsewhere
from lmgraft.testing.handles import HashHandle, Recorded, Refused
from lmgraft.testing.inputs import UniformHandle, byte_tokenizer, columns_of, documents
from lmgraft.testing.outcome import NotApplicable
from lmgraft.testing.suite import disturb_random_numbers

__all__ = ["EvaluatorSuite", "KitData"]

Splits = tuple[Sequence[Document], Sequence[Document]]

#: Long enough for every document of the kit.
_CONTEXT = 4096
_SHORT = (4, 16, 64)
_REMEDY = 'Score("accuracy", 0.5, unit="", higher_is_better=True, detail={"items": 24})'
_HELD_OUT = "split:validation"


class KitData:
    """Implements :class:`lmgraft.seams.evaluator.EvaluationData` over two lists, and notes what is asked for."""

    def __init__(self, train: Sequence[Document], validation: Sequence[Document]) -> None:
        self._splits = {"train": train, "validation": validation}
        self.columns: set[str] = set()
        self.splits: set[str] = set()

    def documents(self, split: str, columns: frozenset[str] = frozenset({"text"})) -> Iterator[Document]:
        self.splits.add(split)
        self.columns |= columns
        for document in self._splits[split]:
            if all(getattr(document, name) is not None for name in columns):
                yield document


class EvaluatorSuite(PartSuite):
    """Holds an evaluator to the rules of :mod:`lmgraft.seams.evaluator`.

    It is shown ``count`` held-out documents with the columns that it needs, and asks a model that knows nothing
    (:class:`~lmgraft.testing.inputs.UniformHandle`) and one of arbitrary opinions
    (:class:`~lmgraft.testing.handles.HashHandle`). Give :meth:`known`: what the first of them must score.
    """

    seam = "evaluator"
    count: ClassVar[int] = 24

    def known(self, vocab_size: int) -> Mapping[str, float]:
        """Score name -> the exact figure of a model for which all of ``vocab_size`` tokens are equally likely and none
        is the argmax; perplexity's is ``{"perplexity": vocab_size}``."""
        return {}

    def documents(self) -> list[Document]:
        """The held-out documents."""
        return documents(columns_of(self.compose().needs()), self.count)

    def train_documents(self) -> list[Document]:
        """Those of the split ``"train"``: others where the settings need held-out ones, and the same where they do not,
        since nothing then says which of the two splits is scored."""
        needs = self.compose().needs()
        return documents(columns_of(needs), self.count, seed=1) if _HELD_OUT in needs else self.documents()

    def tokenizer(self) -> TextTokenizer:
        """What it encodes with."""
        return byte_tokenizer(self.folder / "tokenizer")

    def behaviour(self, part: Any) -> Any:
        return [plain(self._run(part, model)) for model in self._models()]

    def differing(self, first: Any, second: Any) -> str:
        """Equal but for the rounding of sums."""
        return difference(first, levelled(first, second))

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_deterministic(self) -> None:
        """a second run, another build and another process ask the same questions and give the same scores"""
        part = self.build()
        first = self._all(part)
        disturb_random_numbers(11)
        again = {"a second time": self._all(part), "as another build": self._all(self.build())}
        rows = self.train_documents(), self.documents()
        sent = (self.installed.component, self.compose(), rows, self.folder / "tokenizer")
        try:
            again["in another process"] = elsewhere("lmgraft.testing.evaluator:answers", *sent)
        except Failed as error:
            self.require(
                False,
                f"{self.name} fails in another process",
                str(error),
                "a rank of a layout builds its own: use nothing that only the first process has",
            )
        for when, found in again.items():
            for what, fact in (("scores", "gives other scores"), ("asked", "asks other questions")):
                self.require_equal(
                    [row[what] for row in first],
                    [row[what] for row in found],
                    f"{self.name} {fact} {when}",
                    "let the data, the settings and the model's answers decide, not hash(), the order of a set, the "
                    "time or shared random numbers: all ranks must ask the same in the same order",
                )

    def test_known_score(self) -> None:
        """a model that knows nothing scores what arithmetic says"""
        size = self.tokenizer().vocab_size
        known = self.known(size)
        if not known:
            raise NotApplicable("the suite says no known score; known() of it can")
        scores = {score.name: score for score in self._run(self.build(), UniformHandle(size, _CONTEXT))}
        for name, wanted in known.items():
            self.require(
                name in scores,
                f"{self.name} gives no score {name}",
                f"it gives {', '.join(scores) or 'none'}",
                "name in known() of the suite what it scores",
            )
            self.require(
                math.isclose(scores[name].value, wanted, rel_tol=1e-6, abs_tol=1e-9),
                f"{name} of a uniform model is {scores[name].value:.9g}",
                f"each of {size} tokens is equally likely, so it is {wanted:.9g}",
                "look for what is counted twice, left out or divided by another number of items",
            )

    def test_scores_are_sound(self) -> None:
        """finite values under stable names of their own, with a unit, a direction, and the number of items"""
        part = self.build()
        runs = [self._run(part, model) for model in self._models()]
        for scores in runs:
            self._sound(scores)
        shapes = [[(s.name, s.unit, s.higher_is_better, s.reference) for s in scores] for scores in runs]
        self.require_equal(
            shapes[0],
            shapes[1],
            f"{self.name} names its scores by the model's answers",
            "give every model the same scores with the same unit and direction, or tables cannot compare them",
        )
        beside = [[(s.name, s.value) for s in scores if s.reference] for scores in runs]
        self.require_equal(
            beside[0],
            beside[1],
            f"a score that {self.name} marks as a reference depends on the model",
            "reference=True is for figures beside the model's, such as gzip's on the same text",
        )
        values = [[s.value for s in scores if not s.reference] for scores in runs]
        self.require(
            any(found != values[0] for found in values),
            f"{self.name} scores different models alike",
            f"three models of other opinions all come to {values[0]}",
            "ask the handle, and let its answers decide; or let documents() of the suite hold what it can score",
        )

    def test_limit(self) -> None:
        """`limit` caps the number of items, and None takes all"""
        part = self.build()
        model = self._models()[1]
        everything, whole = self._questions(part, model, None)
        many, _ = self._questions(part, model, 10**9)
        self.require_equal(
            plain(everything),
            plain(many),
            f"{self.name} gives other scores under a limit beyond all items than under none",
            "take islice(items, limit), which takes all for None",
        )
        for limit in (1, 3):
            scores, asked = self._questions(part, model, limit)
            self.require(
                len(asked) < len(whole) or len(whole) <= limit,
                f"{self.name} does not keep to a limit of {limit}",
                f"it puts {len(asked)} questions to the model, and {len(whole)} without a limit",
                "stop after `limit` items: islice(data.documents(...), limit)",
            )
            for score in scores:
                self.require(
                    score.reference or any(1 <= number <= limit for number in counts(score)),
                    f"the score {score.name} of {self.name} does not say that it rests on {limit} items",
                    f"limit was {limit}, and its detail holds {dict(score.detail)}",
                    'put the number of items that were counted into detail: {"documents": count}',
                )

    def test_fits_the_context(self) -> None:
        """it never asks for more than context + 1 ids, nor after nothing"""
        part, size = self.build(), self.tokenizer().vocab_size
        for context in (*_SHORT, _CONTEXT):
            try:
                self._run(part, HashHandle(size, context))
            except UserError:
                continue  # it may refuse a model that its items do not fit
            except Refused as error:
                self.require(
                    False,
                    f"{self.name} asks what a model with a context of {context} cannot answer",
                    str(error),
                    "cut the prefix at its left, len(prefix) + len(continuation) <= handle.context + 1, and begin a "
                    "text with lmgraft.seams.tokenizer.first_id(tokenizer); or count the item as too long",
                )

    def test_nothing_to_ask(self) -> None:
        """without any document it says so, or asks questions of its own"""
        try:
            scores = self.build().run(
                self._recorded(self._models()[0]), self._vocabulary(), data=KitData((), ()), limit=None
            )
        except UserError:
            return
        except Exception as error:
            self.require(
                False,
                f"{self.name} breaks off where there is nothing to ask",
                f"{type(error).__name__}: {error}",
                "raise lmgraft.errors.UserError: which split or column is empty, and how it is filled",
            )
        self._sound(scores)

    def test_needs_say_what_it_reads(self) -> None:
        """`needs()` of its settings names every column it asks the data for, and no split that it leaves alone"""
        data = self._data()
        self.build().run(self._recorded(self._models()[0]), self._vocabulary(), data=data, limit=None)
        needs = self.compose().needs()
        lacking = next((name for name in sorted(data.columns) if f"columns:{name}" not in needs), "")
        self.require(
            not lacking,
            f"{self.name} reads the column {lacking} and does not say that it needs it",
            f"needs() of its config says {sorted(needs) or 'nothing'}",
            f'return frozenset({{"columns:{lacking}"}}) from needs(): a recipe without that column is then refused '
            "before a model is trained",
        )
        self.require(
            _HELD_OUT not in needs or "validation" in data.splits,
            f"{self.name} says that it needs held-out documents and reads none",
            f"it asks the data for {', '.join(sorted(data.splits)) or 'no split'}",
            'data.documents("validation", ...) are those that no model was trained on; or leave the need out',
        )

    def test_scores_no_training_documents(self) -> None:
        """where its settings need `split:validation`, what a model is to predict is no document of `train`"""
        needs, rows, found = self.compose().needs(), self.documents(), []
        if _HELD_OUT not in needs:
            raise NotApplicable(f"needs() of its settings does not name {_HELD_OUT}")
        for seed in (1, 2):  # examples from `train` may stand in a prefix
            handle = self._recorded(self._models()[0])
            data = KitData(documents(columns_of(needs), self.count, seed), rows)
            self.build().run(handle, self._vocabulary(), data=data, limit=None)
            found.append([answer for _, answer in handle.asked])
        self.require(
            found[0] == found[1],
            f"{self.name} scores documents that models were trained on",
            "it says that it needs held-out documents, and with other documents in train, and the same held out, "
            "it asks for the probability of other ids",
            'score data.documents("validation", ...); or, where a setting says that train is scored, leave '
            f"{_HELD_OUT} out of needs() with that setting",
        )

    def test_asks_in_batches(self) -> None:
        """it puts many questions to the model in one call"""
        handle = _Calls(self._models()[0], self._vocabulary().vocab_size)
        self.build().run(handle, self._vocabulary(), data=self._data(), limit=None)
        sizes = handle.sizes
        self.require(
            len(sizes) < 2 or max(sizes) > 1,
            f"{self.name} asks the model one question at a time",
            f"it calls handle.score {len(sizes)} times with one request each, and each call costs passes of its own",
            "collect requests and give handle.score a list of them, say 64, the number being an `execution` setting",
        )

    # --- inside -----------------------------------------------------------------------------------------------------

    def _vocabulary(self) -> TextTokenizer:
        """:meth:`tokenizer`, once a check."""
        found: TextTokenizer = self.__dict__.get("_tokenizer") or self.tokenizer()
        self.__dict__["_tokenizer"] = found
        return found

    def _models(self) -> list[ModelHandle]:
        return _models(self._vocabulary().vocab_size)

    def _recorded(self, model: ModelHandle) -> Recorded:
        return Recorded(model, self._vocabulary().vocab_size)

    def _run(self, part: Any, model: ModelHandle) -> list[Score]:
        return self._questions(part, model, None)[0]

    def _questions(self, part: Any, model: ModelHandle, limit: int | None) -> tuple[list[Score], list[Any]]:
        handle = self._recorded(model)
        scores: list[Score] = part.run(handle, self._vocabulary(), data=self._data(), limit=limit)
        self._listed(scores)
        return scores, handle.asked

    def _data(self) -> KitData:
        return KitData(self.train_documents(), self.documents())

    def _all(self, part: Any) -> list[dict[str, Any]]:
        found = [self._questions(part, model, None) for model in self._models()]
        return [{"scores": plain(scores), "asked": asked} for scores, asked in found]

    def _listed(self, scores: Any) -> None:
        """What every other check reads: a list of scores, each with a number and a mapping."""
        self.require(
            isinstance(scores, list) and bool(scores) and all(isinstance(score, Score) for score in scores),
            f"{self.name} gives no scores",
            f"run returned {str(scores)[:60]}",
            "return a list of lmgraft.seams.evaluator.Score, or raise UserError where there is nothing to ask",
        )
        for score in scores:
            wrong = unread(score)
            self.require(not wrong, f"the score {score.name} of {self.name} cannot be kept", wrong, _REMEDY)

    def _sound(self, scores: Sequence[Score]) -> None:
        self._listed(scores)
        names = [score.name for score in scores]
        self.require(
            all(names) and len(set(names)) == len(names),
            f"{self.name} gives two scores one name, or none",
            f"their names are {names}",
            "a score is found by its name in tables, reports and sweeps",
        )
        for score in scores:
            wrong = unsound(score)
            self.require(not wrong, f"the score {score.name} of {self.name} cannot be kept", wrong, _REMEDY)


class _Calls(Recorded):
    """Keeps how many requests each call holds."""

    def __init__(self, handle: ModelHandle, vocab_size: int) -> None:
        super().__init__(handle, vocab_size)
        self.sizes: list[int] = []

    def score(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Scored]:
        self.sizes.append(len(requests))
        return super().score(requests)


def answers(component: Component[Any], config: ComponentConfig, rows: Splits, vocabulary: Path) -> Any:
    """What an evaluator does in a process of its own: its scores and its questions, for each model."""
    from lmgraft.artifacts import tokenizer
    from lmgraft.registry import build

    part, loaded, found = build(component, config), tokenizer.load(vocabulary), []
    for model in _models(loaded.vocab_size):
        handle = Recorded(model, loaded.vocab_size)
        scores = part.run(handle, loaded, data=KitData(*rows), limit=None)
        found.append({"scores": plain(scores), "asked": handle.asked})
    return found


def _models(size: int) -> list[ModelHandle]:
    return [UniformHandle(size, _CONTEXT), *(HashHandle(size, _CONTEXT, seed=seed) for seed in (0, 1))]
