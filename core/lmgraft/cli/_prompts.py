"""``lmgraft generate --prompts``: a file of prompts to a file of answers, several at once.

Answers stand in the order of the prompts and each is the one that ``lmgraft generate`` gives to that prompt alone with
the same seed, whatever is written beside it. With ``--out`` they gather in ``OUT.part``, whose first line says with
what they were made; the same command goes on there after a stop. ``OUT`` itself appears whole, and none is overwritten.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from lmgraft.cli import _asking
from lmgraft.cli.generate import check_length, is_chat, question, text
from lmgraft.errors import Problem, UserError
from lmgraft.generation.jsonl import json_line
from lmgraft.generation.prompts import Prompts
from lmgraft.generation.text import Ending, TextStream
from lmgraft.seams.parallelism import ModelHandle, Sampling

__all__ = ["Row", "read_rows", "run"]

_FORMS = 'a .txt with a prompt a line, or a .jsonl of {"prompt": "..."} or {"messages": [{"role": "user", ...}]}'
#: Options that decide answers; others say how fast they come.
_DECIDING = (
    "max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed", "stop", "system", "chat",
    "template", "precision",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt."""

    name: str
    """File and line."""
    content: dict[str, Any]
    """The row as it came, with ``prompt`` or ``messages``."""


def run(asked: Prompts, file: Path, out: Path | None, values: dict[str, Any]) -> int:
    """Answers every row of ``file``."""
    from lmgraft import loading
    from lmgraft.console import Console
    from lmgraft.signals import StopRequest

    rows = read_rows(file)
    asks = [_ids(asked, row, values) for row in rows]
    with _writer(out, _made_with(asked, file, values), rows) as writer:
        handle = loading.load(asked.folder, device=values["device"], precision=values["precision"])
        for row, (ids, _) in zip(rows, asks, strict=True):
            check_length(ids, handle.context, f"the prompt of {row.name}")
        stop = StopRequest()
        # Only what gathers in a file can go on after a stop.
        with stop if out is not None else nullcontext(), Console().progress("answers", len(rows), "answers") as bar:
            bar.advance(writer.done)
            for index, answer in _answers(asked, handle, rows, asks, writer.done, values):
                bar.advance(1, tokens=answer["tokens"])
                writer.write(index, {**rows[index].content, **answer})
                stop.check()
    return 0


def read_rows(file: Path) -> list[Row]:
    """The prompts of a file.

    :raises UserError: there is no such file, it is of another kind, holds none, or a row that is none.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file.suffix == ".txt" else _lines(file)
    except FileNotFoundError as error:
        raise UserError(Problem(f"--prompts {file}", "there is no such file", f"name {_FORMS}")) from error
    except UnicodeDecodeError as error:
        raise UserError(
            Problem(f"{file} is no text", f"byte {error.start} is no UTF-8", "write it as UTF-8")
        ) from error
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not kept:
        raise UserError(Problem(f"{file} holds no prompt", "it is empty", f"write {_FORMS}"))
    if file.suffix == ".txt":
        return [Row(f"{file}:{number}", {"prompt": line}) for number, line in kept]
    return [_row(f"{file}:{number}", line) for number, line in kept]


def _lines(file: Path) -> list[str]:
    if file.suffix != ".jsonl":
        ends = f"its name ends in {file.suffix!r}" if file.suffix else "its name has no ending"
        cause = "it is a folder" if file.is_dir() else f"{ends}, which does not say what a line is"
        raise UserError(Problem(f"--prompts {file}", cause, f"name {_FORMS}"))
    return file.read_text(encoding="utf-8").split("\n")  # a text in JSON may hold other line ends


def _row(name: str, line: str) -> Row:
    from lmgraft.rows.chats import chat
    from lmgraft.rows.values import RowError

    try:
        row = json.loads(line)
        json_line(row).encode()  # half a character is no text
    except (ValueError, RecursionError) as error:
        raise UserError(Problem(f"{name} is no JSON", str(error), f"write {_FORMS}")) from error
    if not isinstance(row, dict) or (isinstance(row.get("prompt"), str)) == ("messages" in row):
        cause = "it needs one of prompt (a text) and messages"
        raise UserError(Problem(f"{name} holds no prompt", cause, f"write {_FORMS}"))
    seed = row.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise UserError(Problem(f"{name}: seed is {seed!r}", "it must be a whole number, at least 0", "leave it out"))
    if "messages" in row:
        try:
            row["messages"] = chat(row["messages"], "messages")
        except RowError as error:
            raise UserError(error.problem(name)) from error
    return Row(name, row)


def _ids(asked: Prompts, row: Row, values: dict[str, Any]) -> tuple[list[int], bool]:
    """(ids, is it a question)."""
    if "messages" in row.content:
        asked.required()
        before = [{"role": "system", "content": values["system"]}] if values["system"] is not None else []
        return asked.chat([*before, *row.content["messages"]]), True
    chat = is_chat(asked, values["chat"])
    return (question if chat else text)(asked, row.content["prompt"], values["system"]), chat


def _answers(
    asked: Prompts,
    handle: ModelHandle,
    rows: Sequence[Row],
    asks: Sequence[tuple[list[int], bool]],
    done: int,
    values: dict[str, Any],
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row, answer) in the order in which they end."""
    from lmgraft.generation.onebyone import decoding

    endings = {chat: asked.ending(chat=chat, strings=values["stop"]) for chat in {chat for _, chat in asks}}
    batch = decoding(handle)
    under_way: dict[int, tuple[int, TextStream, list[str]]] = {}
    waiting = iter(range(done, len(rows)))
    while True:
        while len(under_way) < values["at_once"] and (index := next(waiting, None)) is not None:
            ids, chat = asks[index]
            number = batch.add(ids, _sampling(rows[index], endings[chat], values))
            under_way[number] = index, TextStream(asked.tokenizer, endings[chat]), []
        if not under_way:
            return
        for number, token, last in batch.step():
            index, stream, pieces = under_way[number]
            pieces.append(stream.feed(token, last=last))
            if stream.reason is not None:
                batch.remove(number)
                del under_way[number]
                yield index, {"text": "".join(pieces), "finish_reason": stream.reason, "tokens": stream.tokens}


def _sampling(row: Row, ending: Ending, values: dict[str, Any]) -> Sampling:
    sampling = _asking.sampling_of(values, ending.ids)
    return replace(sampling, seed=row.content.get("seed", sampling.seed))


# --- out --------------------------------------------------------------------------------------------------------------


def _made_with(asked: Prompts, file: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    prompts = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"model": str(asked.folder.resolve()), "prompts": prompts} | {name: values[name] for name in _DECIDING}


@dataclass(slots=True)
class _Writer:
    """Writes rows in their order; those that end before their turn wait."""

    file: IO[str]
    done: int
    _early: dict[int, str]

    def write(self, index: int, row: dict[str, Any]) -> None:
        self._early[index] = json_line(row)
        while self.done in self._early:
            self.file.write(self._early.pop(self.done))
            self.done += 1
        self.file.flush()


@contextmanager
def _writer(out: Path | None, made_with: dict[str, Any], rows: Sequence[Row]) -> Iterator[_Writer]:
    if out is None:
        yield _Writer(sys.stdout, 0, {})
        return
    if out.exists() or out.is_symlink():
        cause = "it would be overwritten"
        raise UserError(Problem(f"--out {out} is there already", cause, f"rm {out}, or name another file"))
    part = out.with_name(out.name + ".part")
    head = json_line({"made_with": made_with})
    kept = _kept(part, head)
    try:
        opened = part.open("w" if not kept else "r+", encoding="utf-8", newline="\n")
    except FileNotFoundError as error:
        raise UserError(Problem(f"--out {out}", "its folder is not there", f"mkdir -p {out.parent}")) from error
    except OSError as error:
        cause = error.strerror or str(error)
        raise UserError(Problem(f"--out {out} cannot be written", cause, "name a file where you may write")) from error
    with opened as file:
        # A line that a crash cut off is written again.
        file.write("".join(kept or [head]))
        file.truncate()
        yield _Writer(file, max(0, len(kept) - 1), {})
    finished = out.with_name(out.name + ".tmp")
    lines = part.read_text(encoding="utf-8").split("\n")[1:-1]
    if len(lines) == len(rows):
        finished.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
        os.replace(finished, out)
        part.unlink()


def _kept(part: Path, head: str) -> list[str]:
    """The whole lines of what an earlier run left, its head included; none where it left nothing."""
    if not part.is_file():
        return []
    # Not splitlines: an answer may hold other line ends. What follows the last "\n" is a line that was cut off.
    lines = [line + "\n" for line in part.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]]
    if lines and lines[0] != head:
        cause = "it was begun with another model, other prompts or other options"
        remedy = f"rm {part} to begin anew, or give the options as they were"
        raise UserError(Problem(f"{part} holds other answers", cause, remedy))
    return lines
