"""``lmgraft generate``: text from a model folder or a run directory, token by token, or of a whole file of prompts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmgraft.cli._asking import loading_options, sampling_options

if TYPE_CHECKING:
    from lmgraft.generation.prompts import Prompts

__all__ = ["generate"]


@click.command(
    epilog="""\b
Examples:
  lmgraft generate runs/quickstart/2026-01-31_12-00-00 "The module "
  lmgraft generate out/stages/pretrain "def " --max-new-tokens 200 --temperature 0 --stop $'\\ndef '
  lmgraft generate runs/solar/2026-01-31_12-00-00 "What does len return?" --system "Be brief."
  lmgraft generate runs/solar/2026-01-31_12-00-00 "Once upon a time" --no-chat
  git diff | lmgraft generate runs/solar/2026-01-31_12-00-00 - --precision int8
  lmgraft generate out/stages/dpo --prompts questions.jsonl --out answers.jsonl --at-once 16"""
)
@click.argument("checkpoint", type=click.Path())
@click.argument("prompt", required=False)
@click.option(
    "--chat/--no-chat",
    default=None,
    help="Ask PROMPT as a question, or continue it as text.  [default: ask where the model has a chat template]",
)
@click.option("--system", metavar="TEXT", help="What stands before the question, for a model that chats.")
@click.option(
    "--prompts",
    "file",
    metavar="FILE",
    help="In place of PROMPT: a .txt with a prompt a line, or a .jsonl with rows of `prompt` or of `messages` (and of "
    "`seed`, where a row has its own). Each row comes out with text, finish_reason and tokens.",
)
@click.option("--out", metavar="FILE", help="The JSONL to write; not given: standard output. Stopped, it goes on.")
@click.option("--at-once", default=8, show_default=True, help="Prompts of a file that are written together.")
@sampling_options
@loading_options
def generate(checkpoint: str, prompt: str | None, file: str | None, out: str | None, **values: Any) -> int:
    """Lets the model in CHECKPOINT (a model folder or a run directory) answer PROMPT, where it was tuned on chats, or
    continue it. `-` reads PROMPT from standard input."""
    from lmgraft.cli import _asking
    from lmgraft.generation.prompts import prompts

    _asking.check(values)
    _one_of(prompt, file, out, values["at_once"])
    asked = prompts(Path(checkpoint), values["template"])
    if file is not None:
        from lmgraft.cli._prompts import run

        return run(asked, Path(file), Path(out) if out is not None else None, values)
    assert prompt is not None, "one of the two is there"
    return _single(asked, _read() if prompt == "-" else prompt, values)


def _single(asked: Prompts, prompt: str, values: dict[str, Any]) -> int:
    from lmgraft import loading
    from lmgraft.cli import _asking
    from lmgraft.generation.text import TextStream
    from lmgraft.printable import printable

    chat = is_chat(asked, values["chat"])
    ids = question(asked, prompt, values["system"]) if chat else text(asked, prompt, values["system"])
    handle = loading.load(asked.folder, device=values["device"], precision=values["precision"])
    check_length(ids, handle.context)
    ending = asked.ending(chat=chat, strings=values["stop"])
    # A pipe gets what the model says; a terminal would obey some of it.
    shown: Callable[[str], str] = printable if sys.stdout.isatty() else str
    _say("" if chat else shown(prompt))
    stream = TextStream(asked.tokenizer, ending)
    for token in handle.generate(ids, _asking.sampling_of(values, ending.ids)):
        _say(shown(stream.feed(token)))
        if stream.reason is not None:
            break
    _say(shown(stream.finish()) + "\n")
    return 0


def _say(text: str) -> None:
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()


def is_chat(asked: Prompts, chat: bool | None) -> bool:
    """Is a prompt a question. :raises UserError: it is to be one, and the model has no chat template."""
    if chat:
        asked.required()
    return asked.template is not None if chat is None else chat


def text(asked: Prompts, prompt: str, system: str | None) -> list[int]:
    """The ids of a prompt that is continued."""
    from lmgraft.errors import Problem, UserError

    if system is not None:
        cause = "the prompt is continued as text: the model has no chat template, or --no-chat was given"
        raise UserError(Problem("--system has nowhere to stand", cause, "write it at the start of the prompt"))
    return asked.text(prompt)


def question(asked: Prompts, prompt: str, system: str | None) -> list[int]:
    """The ids of a prompt that is answered."""
    before = [{"role": "system", "content": system}] if system is not None else []
    return asked.chat([*before, {"role": "user", "content": prompt}])


def check_length(ids: list[int], context: int, what: str = "the prompt") -> None:
    """:raises UserError: the prompt leaves no room for a token."""
    from lmgraft.errors import Problem, UserError

    if len(ids) >= context:
        cause = f"it is {len(ids)} tokens and the model's context is {context}"
        raise UserError(Problem(f"{what} is too long", cause, "shorten it"))


def _read() -> str:
    from lmgraft.errors import Problem, UserError

    data = sys.stdin.buffer.read()
    try:
        given = data.decode("utf-8")
    except UnicodeDecodeError as error:
        cause = f"byte {error.start} of it begins no UTF-8 character"
        raise UserError(Problem("standard input is no text", cause, "pipe UTF-8: iconv -t utf-8")) from error
    # The line end that echo and every editor put behind a text is none of it.
    return given.removesuffix("\n").removesuffix("\r")


def _one_of(prompt: str | None, file: str | None, out: str | None, at_once: int) -> None:
    from lmgraft.errors import Problem, UserError

    if (prompt is None) == (file is None):
        fact = "there is no prompt" if prompt is None else "PROMPT and --prompts were both given"
        raise UserError(Problem(fact, "it is one of PROMPT, - and --prompts FILE", 'lmgraft generate MODEL "The "'))
    if file is None and out is not None:
        cause = "one answer goes to standard output; --out is of --prompts"
        raise UserError(Problem(f"--out {out} without --prompts", cause, f"lmgraft generate MODEL PROMPT > {out}"))
    if at_once < 1:
        raise UserError(Problem(f"--at-once {at_once}", "it must be at least 1", "--at-once 8"))
