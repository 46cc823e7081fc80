"""The suite of the door ``teacher``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmgraft.errors import UserError
from lmgraft.testing.common import PartSuite
from lmgraft.testing.endpoint import REFUSED, Endpoint, no_network
from lmgraft.testing.inputs import texts
from lmgraft.testing.models import contents, unused
from lmgraft.testing.outcome import Nonconforming, NotApplicable

__all__ = ["TeacherSuite"]

Conversation = Sequence[Mapping[str, Any]]


class TeacherSuite(PartSuite):
    """Holds a teacher to the rules of :mod:`lmgraft.seams.teacher`.

    For a teacher that asks an endpoint the kit runs one, whose answers are known::

        def prepare(self):
            return {"base_url": self.serve()}

    A teacher of another kind overrides :meth:`cut_off`, which takes away what it answers from.
    """

    seam = "teacher"
    endpoint: Endpoint | None = None
    """The endpoint that the kit runs, once `serve()` has started it; closed after the check."""

    def teardown_method(self, method: Any = None) -> None:
        if self.endpoint is not None:
            self.endpoint.close()
            self.endpoint = None
        super().teardown_method(method)

    def serve(self) -> str:
        """The address of an OpenAI-compatible endpoint on this machine, ``http://127.0.0.1:PORT/v1``; one a check."""
        if self.endpoint is None:
            self.endpoint = Endpoint()
        return self.endpoint.url

    def conversations(self) -> list[list[dict[str, Any]]]:
        """What the teacher is asked: distinct conversations, nasty Unicode among them."""
        found: list[list[dict[str, Any]]] = [[{"role": "user", "content": text}] for text in texts(6)]
        first, second, third = texts(3, seed=1)
        found.append([{"role": "system", "content": first}, {"role": "user", "content": second}])
        said = [{"role": "user", "content": first}, {"role": "assistant", "content": second}]
        return [*found, [*said, {"role": "user", "content": third}]]

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Within the block the teacher has nothing but its record: this process reaches no network."""
        with no_network():
            yield

    def behaviour(self, part: Any) -> Any:
        return self._ask(part, self.conversations(), self._record())

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_one_answer_each_in_order(self) -> None:
        """one answer for each conversation, in order; equal ones are answered alike"""
        asked, record = self.conversations(), self._record()
        asked = [*asked, asked[2]]
        answers = self._ask(self.build(), asked, record)
        self._matched(asked, answers)
        turned = self._ask(self.build(), asked[::-1], record)
        self.require_equal(
            answers,
            turned[::-1],
            f"{self.name} gives a conversation another answer when the list is turned round",
            "return answers in the order of the requests, whatever the order in which they came in",
        )

    def test_repeated_from_the_record(self) -> None:
        """what is in the record is answered from it: nothing is asked again, whatever the order"""
        asked, record = self.conversations(), self._record()
        first = self._ask(self.build(), asked, record)
        with self.cut_off():
            try:
                again = self._ask(self.build(), asked[::-1], record)
            except Exception as error:
                self.require(
                    False, f"{self.name} cannot answer from its record", f"it raised {type(error).__name__}: {error}",
                    "write every answer to `record` under a digest of its request, look there first, and reach for "
                    "nothing where all are found",
                )  # fmt: skip
        self.require_equal(
            first,
            again[::-1],
            f"{self.name} answers otherwise from its record",
            "key the record by a digest of the whole request, not by its place in the list",
        )

    def test_another_request_is_no_old_one(self) -> None:
        """a conversation that differs in one letter, one role or an earlier turn is not answered from the record"""
        asked, record = self.conversations(), self._record()
        self._ask(self.build(), asked, record)
        *earlier, last = asked[-1]
        others = {
            "last message": [*earlier, {**last, "content": f"{last['content']}?"}],
            "earlier turn": [{**earlier[0], "content": f"{earlier[0]['content']}?"}, *earlier[1:], last],
            "role": [{**earlier[0], "role": "system"}, *earlier[1:], last],
        }
        for what, other in others.items():
            with self.cut_off():
                self._unanswered(other, record, what)

    def test_only_the_record_is_written(self) -> None:
        """nothing but the record is written, and it holds no key"""
        part, record = self.build(), self._record()
        before = contents(self.folder)
        self._ask(part, self.conversations(), record)
        after, name = contents(self.folder), record.relative_to(self.folder).as_posix()
        others = [path for path in after if before.get(path) != after[path] and path != name]
        self.require(
            not others,
            f"{self.name} writes {', '.join(others[:3])} beside its record",
            "the stage that asks keeps the record alone",
            "keep everything that a second run needs in the file `record`",
        )
        self.require(
            record.is_file(),
            f"{self.name} writes no record",
            f"{record.name} is not there after ask()",
            "write every answer to `record`, a file, under a digest of its request",
        )
        for sent in self._sent():
            key = sent.authorization.rpartition(" ")[2].encode()
            self.require(
                not key or key not in record.read_bytes(),
                f"{self.name} writes its key into the record",
                "the record is kept, and carried to others, with the texts that come of it",
                "record the messages and the answer; leave the headers out",
            )

    def test_answers_before_a_failure_are_kept(self) -> None:
        """an answer is in the record as soon as it is there: what comes after a failure asks for the rest only"""
        asked, record = self.conversations(), self._record()
        self._ask(self.build(), asked[:1], self._record())
        if self.endpoint is None or not self.endpoint.asked:
            raise NotApplicable("it is seen by the kit's endpoint, which this teacher does not ask: serve()")
        fails = [*asked[:3], [{"role": "user", "content": REFUSED}]]
        self.endpoint.asked.clear()
        try:
            self.build().ask(fails, record)
        except UserError:
            pass
        except Exception as error:
            self.require(
                False, f"{self.name} breaks off where the endpoint refuses a request",
                f"it raised {type(error).__name__}: {error}",
                "raise UserError(Problem(fact, cause, remedy)) with what the endpoint said",
            )  # fmt: skip
        else:
            self.require(
                False, f"{self.name} takes a refusal for an answer", "the endpoint answered with status 400",
                "raise UserError(Problem(fact, cause, remedy)) with what the endpoint said",
            )  # fmt: skip
        known = [sent.messages for sent in self.endpoint.asked if sent.answer]
        self.endpoint.asked.clear()
        self._ask(self.build(), asked[:3], record)
        again = [sent for sent in self.endpoint.asked if sent.messages in known]
        self.require(
            not again,
            f"{self.name} asks again for {len(again)} answers that it had before a failure",
            "they were not in the record when the failure came, and answers cost time and money",
            "append each answer to `record` when it arrives, not at the end",
        )

    # --- how a stage asks -------------------------------------------------------------------------------------------

    def _record(self) -> Path:
        return unused(self.folder, "record")

    def _sent(self) -> list[Any]:
        return [] if self.endpoint is None else list(self.endpoint.asked)

    def _ask(self, part: Any, asked: Sequence[Conversation], record: Path) -> list[str]:
        try:
            answers = part.ask(asked, record)
        except UserError as error:
            first = error.problems[0]
            remedy = 'in the suite, `def prepare(self): return {"base_url": self.serve()}`, under your setting\'s name'
            raise Nonconforming(f"{self.name} does not answer: {first.fact}", first.cause, remedy) from error
        plain = isinstance(answers, list) and all(isinstance(answer, str) for answer in answers)
        self.require(
            plain and len(answers) == len(asked),
            f"{self.name} gives {len(answers)} answers to {len(asked)} conversations"
            if plain
            else f"{self.name} gives no list of texts",
            "who asks matches them by their place",
            "return a list with one text for each conversation, in order",
        )
        return list(answers)

    def _matched(self, asked: Sequence[Conversation], answers: Sequence[str]) -> None:
        """Where a conversation went to the kit's endpoint as it was, the answer is the one that came back."""
        known = [(sent.messages, sent.answer) for sent in self._sent()]
        for number, (conversation, given) in enumerate(zip(asked, answers, strict=True)):
            back = [text for messages, text in known if messages == [dict(message) for message in conversation]]
            self.require(
                not back or given in back,
                f"{self.name} gives conversation {number} an answer that is not its own",
                f"the endpoint said {back[:1]}, and it gives {given!r}",
                "keep answers with their requests when several are under way at once",
            )

    def _unanswered(self, other: Conversation, record: Path, what: str) -> None:
        try:
            given = self.build().ask([other], record)
        except UserError:
            return
        except Exception as error:
            self.require(
                False, f"{self.name} breaks off where it reaches nobody", f"it raised {type(error).__name__}: {error}",
                "raise UserError(Problem(fact, cause, remedy)): what was asked, what failed, what to do",
            )  # fmt: skip
        self.require(
            False, f"{self.name} answers from its record although the conversation's {what} is another one",
            f"cut off from everything it gave {given!r:.80}",
            "key the record by a digest of the whole conversation, roles and earlier turns included, and the settings",
        )  # fmt: skip
