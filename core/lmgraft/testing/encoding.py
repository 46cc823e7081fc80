"""The part of the objectives' suite that looks at what ``encode`` makes of documents."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

from lmgraft.errors import UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.objective import Example
from lmgraft.seams.tokenizer import TextTokenizer
from lmgraft.testing._chats import unlike_prompt
from lmgraft.testing.common import PartSuite
from lmgraft.testing.inputs import byte_tokenizer, columns_of, documents
from lmgraft.testing.outcome import NotApplicable
from lmgraft.testing.suite import disturb_random_numbers

__all__ = ["EncodingSuite", "finite", "number", "plain", "values_of"]


class EncodingSuite(PartSuite):
    """Documents as examples: what an objective reads, and what it makes of it."""

    seam = "objective"
    count: ClassVar[int] = 12

    def documents(self) -> list[Document]:
        """What it learns from: short ones, so that sums stay exact enough to compare."""
        return [_short(document) for document in documents(columns_of(self.compose().needs()), self.count)]

    def tokenizer(self) -> TextTokenizer:
        """What it encodes with."""
        return byte_tokenizer(self.folder / "tokenizer")

    def _vocabulary(self) -> TextTokenizer:
        """:meth:`tokenizer`, once a check."""
        found: TextTokenizer = self.__dict__.get("_tokenizer") or self.tokenizer()
        self.__dict__["_tokenizer"] = found
        return found

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_needs_say_what_it_reads(self) -> None:
        """`needs()` of its settings names the columns it learns from, and a reference where its loss reads one"""
        part, needs = self.build(), self.compose().needs()
        wanted = {f"columns:{name}" for name in part.columns()}
        if "reference" in values_of(part):
            wanted.add("reference")
        said = {need for need in needs if need.startswith("columns:") or need == "reference"}
        self.require(
            said == wanted,
            f"{self.name} reads other things than its settings say",
            f"needs(): {', '.join(sorted(said)) or 'nothing'}; columns() and values(): {', '.join(sorted(wanted))}",
            f"return frozenset({sorted(wanted)}) from needs() of its config: a recipe that lacks them is then refused "
            "before anything runs",
        )

    def test_encode_is_deterministic(self) -> None:
        """a document is encoded the same way every time, by every build"""
        part, rows, tokenizer = self.build(), self.documents(), self._vocabulary()
        first = [[plain(e) for e in part.encode(row, tokenizer)] for row in rows]
        disturb_random_numbers(7)
        for other, who in ((part, "a second time"), (self.build(), "by another build")):
            self.require_equal(
                first,
                [[plain(e) for e in other.encode(row, tokenizer)] for row in rows],
                f"{self.name} encodes documents differently {who}",
                "let the document, the tokenizer and the settings decide: a resumed run encodes again, and a "
                "reference's scores are of these very tokens",
            )

    def test_one_document_one_unit(self) -> None:
        """a document gives the same sequences whatever came before it, and their roles tell them apart"""
        part, rows, tokenizer = self.build(), self.documents(), self._vocabulary()
        among = [[plain(e) for e in part.encode(row, tokenizer)] for row in rows]
        other = self.build()
        turned = [[plain(e) for e in other.encode(row, tokenizer)] for row in rows[::-1]]
        self.require_equal(
            among,
            turned[::-1],
            f"{self.name} encodes a document differently after other documents",
            "keep nothing from one call of encode to the next: the sequences of one document are one unit",
        )
        for number, found in enumerate(among):
            roles = [row[2] for row in found]
            self.require(
                len(set(roles)) == len(roles) or len(set(roles)) == 1,
                f"{self.name} gives document {number} sequences of the roles {roles}",
                "sequences of one unit are told apart by their roles, so all differ, or all are alike (a group)",
                "Example(tokens, weights, role=0) for the first, role=1 for the second",
            )

    def test_examples_are_sound(self) -> None:
        """tokens of the vocabulary, a finite weight for each, something to predict, and the values that it reads"""
        part, tokenizer = self.build(), self._vocabulary()
        names = values_of(part) - {"reference"}
        for row in self.documents():
            found = part.encode(row, tokenizer)
            for example in found:
                wrong = _unsound(example, tokenizer.vocab_size, names)
                self.require(
                    not wrong,
                    f"{self.name} encodes {row.id} to an example that training cannot take",
                    wrong,
                    "Example(tokens, weights): whole ids, a weight for each of them, and `values` as values() says",
                )
            self.require(
                not found or any(weight for example in found for weight in example.weights[1:]),
                f"{self.name} encodes {row.id} to a unit without anything to learn",
                "no predicted token has a weight, and the first token of a sequence is never predicted",
                "return [] for a document that holds nothing to learn; weights[t] belongs to tokens[t]",
            )

    def test_refusals_name_the_document(self) -> None:
        """a document that it cannot learn from is refused by a message that names it, or gives nothing"""
        part, tokenizer = self.build(), self._vocabulary()
        for row in _poor(self.documents()[0]):
            try:
                part.encode(row, tokenizer)
            except UserError as error:
                self.require(
                    any(row.id in str(problem) for problem in error.problems),
                    f"{self.name} refuses a document without its id",
                    f"it says: {error.problems[0].fact}",
                    "name document.id in the fact: of a million rows somebody has to find this one",
                )
            except Exception as error:
                self.require(
                    False,
                    f"{self.name} breaks off on a document that lacks {_lacking(row)}",
                    f"encode raised {type(error).__name__}: {error}",
                    "return [] where there is nothing to learn, or raise lmgraft.errors.UserError naming document.id",
                )

    def test_chat_template_formats_as_encode(self) -> None:
        """text generation, which takes its chat template, prompts as training did"""
        part, tokenizer = self.build(), self._vocabulary()
        if not hasattr(part, "chat_template"):
            raise NotApplicable("it formats no chats: it has no chat_template")
        template = part.chat_template(tokenizer)
        for row in self.documents():
            for example in part.encode(row, tokenizer):
                apart = unlike_prompt(row, example, tokenizer, template)
                self.require(
                    not apart,
                    f"{self.name} encodes {row.id} unlike the chat template that it gives",
                    apart,
                    "encode with lmgraft.chat.encode_chat(messages, tokenizer, self.chat_template(tokenizer)): a "
                    "finished model is prompted by that template",
                )


def values_of(part: Any) -> frozenset[str]:
    """What its loss reads from ``Batch.values``."""
    return frozenset(part.values()) if hasattr(part, "values") else frozenset()


def plain(example: Example) -> list[Any]:
    """An example as values that compare and print."""
    return [list(example.tokens), list(example.weights), example.role, dict(example.values)]


def number(value: Any) -> bool:
    """Is it a plain number?"""
    return isinstance(value, float | int)


def finite(value: Any) -> bool:
    """Is it a plain number, and finite?"""
    return number(value) and math.isfinite(value)


def _short(row: Document) -> Document:
    def cut(text: str | None) -> str | None:
        return text if text is None or len(text) <= 60 else f"{text[:45].strip()} {text[-12:]}"

    said = row.messages and [{**turn, "content": cut(turn["content"])} for turn in row.messages]
    answers: dict[str, Any] = {"prompt": cut(row.prompt), "chosen": cut(row.chosen), "rejected": cut(row.rejected)}
    return dataclasses.replace(row, text=cut(row.text), messages=said, **answers)


def _poor(row: Document) -> list[Document]:
    """What else stands in people's corpora: rows whose fields are empty or missing."""
    found = []
    for name in ("text", "messages", "prompt", "chosen", "rejected"):
        if getattr(row, name) is not None:
            for empty in ([] if name == "messages" else "", None):
                changes: dict[str, Any] = {name: empty, "id": f"kit:poor {name}"}
                found.append(dataclasses.replace(row, **changes))
    if row.messages:
        found.append(dataclasses.replace(row, id="kit:no answer", messages=list(row.messages)[:1]))
    return found


def _lacking(row: Document) -> str:
    return row.id.removeprefix("kit:").removeprefix("poor ").removeprefix("no ")


def _unsound(example: Example, size: int, names: frozenset[str]) -> str:
    tokens, weights = example.tokens, example.weights
    wrong = [token for token in tokens if not isinstance(token, int) or not 0 <= token < size]
    if wrong:
        return f"the token {wrong[0]!r}; ids are whole numbers from 0 to {size - 1}"
    if len(tokens) < 2:
        return f"{len(tokens)} tokens; the first one is read and never predicted, so there are two at least"
    if len(weights) != len(tokens):
        return f"{len(tokens)} tokens and {len(weights)} weights"
    if not all(number(weight) and math.isfinite(weight) for weight in weights):
        return f"the weight {next(w for w in weights if not number(w) or not math.isfinite(w))!r}"
    if not isinstance(example.role, int) or not 0 <= example.role < 128:
        return f"the role {example.role!r}; roles are numbers from 0 to 127"
    if set(example.values) != names:
        return f"values {sorted(example.values)}, and values() says {sorted(names)}"
    return next((f"the value {k} is {v!r}" for k, v in example.values.items() if not finite(v)), "")
