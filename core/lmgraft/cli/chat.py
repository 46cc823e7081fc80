"""``lmgraft chat``: a conversation with a model on a terminal, or over a pipe with a message a line."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmgraft.cli._asking import loading_options, sampling_options

if TYPE_CHECKING:
    from lmgraft.generation.conversation import Conversation
    from lmgraft.generation.prompts import Prompts
    from lmgraft.seams.parallelism import ModelHandle

__all__ = ["chat"]

COMMANDS = {
    "/reset": "forgets the conversation; the system message stays",
    "/system TEXT": "what stands before the conversation from now on; without TEXT: nothing",
    "/save FILE": "adds the conversation to a JSONL file, a line of messages, which corpus stages read",
    "/help": "this list; a message that begins with a slash is written with two",
    "/quit": "ends, as Ctrl-D does; Ctrl-C stops an answer",
}


@click.command(
    epilog="""\b
Examples:
  lmgraft chat runs/solar/2026-01-31_12-00-00
  lmgraft chat out/stages/dpo --system "Be brief." --temperature 0
  lmgraft chat mistral-7b/ --template chatml --precision int8 --stop "<|im_end|>"
  printf 'What is a list?\\nAnd a tuple?\\n' | lmgraft chat runs/solar/2026-01-31_12-00-00

\b
In the conversation:
"""
    + "\n".join(f"  {name:14}{what}" for name, what in COMMANDS.items())
)
@click.argument("checkpoint", type=click.Path())
@click.option("--system", metavar="TEXT", help="What stands before the conversation.")
@sampling_options
@loading_options
def chat(checkpoint: str, system: str | None, **values: Any) -> int:
    """Talks with the model in CHECKPOINT (a model folder or a run directory), which reads all that was said before."""
    from lmgraft import loading
    from lmgraft.cli import _asking
    from lmgraft.generation.conversation import Conversation
    from lmgraft.generation.prompts import prompts

    _asking.check(values)
    asked = prompts(Path(checkpoint), values["template"])
    asked.required()
    handle = loading.load(asked.folder, device=values["device"], precision=values["precision"])
    talk = _Talk(asked, handle, Conversation(asked, handle.context, system), values)
    for line in _lines(checkpoint):
        if not talk.take(line):
            break
    return 0


class _Talk:
    """One line after the other: commands are obeyed, messages answered."""

    def __init__(self, asked: Prompts, handle: ModelHandle, said: Conversation, values: dict[str, Any]) -> None:
        from lmgraft.printable import printable

        self._asked, self._handle, self._said, self._values = asked, handle, said, values
        # A pipe gets what the model says; a terminal would obey some of it.
        self._shown: Callable[[str], str] = printable if sys.stdout.isatty() else str

    def take(self, line: str) -> bool:
        """False where it was the last."""
        from lmgraft.errors import UserError

        try:
            if line.startswith("//"):
                self._answer(line[1:])
            elif line.startswith("/"):
                return self._obey(*line.partition(" ")[::2])
            elif line.strip():
                self._answer(line)
        except UserError as error:  # of one message or command; the conversation goes on
            _note(str(error))
        except KeyboardInterrupt:  # the second one, while a long prompt is read
            if not sys.stdin.isatty():
                raise
            _note("\nstopped; the message is forgotten")
        return True

    def _obey(self, command: str, rest: str) -> bool:
        rest = rest.strip()
        if command == "/quit":
            return False
        if command == "/reset":
            self._said.reset()
            _note("the conversation begins anew")
        elif command == "/system":
            self._said.system = rest or None
            _note("the system message is set" if rest else "there is no system message any more")
        elif command == "/save":
            self._save(rest)
        elif command == "/help":
            _note("\n".join(f"{name:14}{what}" for name, what in COMMANDS.items()))
        else:
            _note(f"there is no command {command}; /help lists them, and // begins a message with a slash")
        return True

    def _save(self, name: str) -> None:
        from lmgraft.errors import Problem, UserError

        if not name:
            raise UserError(Problem("/save names no file", "the conversation needs one", "/save chats.jsonl"))
        count = self._said.save(Path(name).expanduser())
        _note(f"saved as line {count} of {name}: a source `files` reads it with rows: messages")

    def _answer(self, question: str) -> None:
        before = self._said.left_out
        with _interruptible() as stopped:  # until it is kept: the last token may come with the key
            ids = self._said.ids(question, self._values["max_new_tokens"])
            if (gone := self._said.left_out) > before:
                turns = "the oldest turn is" if gone == 1 else f"the {gone} oldest turns are"
                _note(f"the context of {self._handle.context} tokens is full: {turns} no longer read")
            self._said.add(question, self._say(ids, stopped))

    def _say(self, ids: list[int], stopped: Callable[[], bool]) -> str:
        """The answer, told as it comes; Ctrl-C ends it and keeps what was told."""
        from lmgraft.cli import _asking
        from lmgraft.generation.text import TextStream

        ending = self._asked.ending(chat=True, strings=self._values["stop"])
        stream = TextStream(self._asked.tokenizer, ending)
        pieces: list[str] = []

        def tell(piece: str) -> None:
            pieces.append(piece)
            if piece:
                sys.stdout.write(self._shown(piece))
                sys.stdout.flush()

        for token in self._handle.generate(ids, _asking.sampling_of(self._values, ending.ids)):
            tell(stream.feed(token))
            if stream.reason is not None or stopped():
                break
        tell(stream.finish())
        print(flush=True)
        if stopped():
            _note("stopped")
        return "".join(pieces)


def _lines(model: str) -> Iterator[str]:
    """What the user types, or the lines of a pipe, to their end."""
    from lmgraft.printable import printable

    if not sys.stdin.isatty():
        with suppress(AttributeError):  # a test's own stdin
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
        for line in sys.stdin:
            yield line.rstrip("\r\n")
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started by a script in the background, whose commands inherit that; on a terminal Ctrl-C is obeyed.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(ImportError):
        import readline  # noqa: F401  (input() edits lines and remembers them by it)
    _note(f"{printable(model)}: /help lists the commands, Ctrl-D ends")
    while True:
        try:
            yield input("> ").encode("utf-8", "replace").decode()  # keys that are no text come as lone halves
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            _note("Ctrl-D or /quit ends the conversation")


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C is a wish that the given function tells of; the second one is obeyed at once.

    In a pipe nobody types: there a signal ends the program, as everywhere.
    """
    came = False

    def note(number: int, frame: object) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    main = threading.current_thread() is threading.main_thread()
    if not main or not sys.stdin.isatty():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, before)


def _note(text: str) -> None:
    """To the person and not into a pipe of answers; what others wrote acts on no terminal."""
    from lmgraft.printable import printable

    sys.stdout.flush()
    print(printable(text), file=sys.stderr, flush=True)
