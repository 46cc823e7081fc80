"""``lmgraft chat`` over a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from lmgraft.cli import main
from lmgraft.cli.chat import chat
from lmgraft.cli.generate import generate
from lmgraft.generation.conversation import Conversation
from lmgraft.generation.prompts import prompts
from lmgraft.rows.kinds import Rows, RowsConfig
from lmgraft.rows.reader import RowReader
from lmgraft.testing.models import write_llama
from writing_model import write_model

GREEDY = ("--temperature", "0", "--max-new-tokens", "20")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny", context=400)


@dataclass(frozen=True)
class Said:
    code: int
    answers: list[str]
    notes: list[str]


def talk(model: Path, *lines: str, options: tuple[str, ...] = GREEDY) -> Said:
    done = CliRunner().invoke(chat, [str(model), *options], input="\n".join(lines) + "\n", standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return Said(done.return_value, done.stdout.split("\n")[:-1], done.stderr.split("\n")[:-1])


def asked(model: Path, *messages: str) -> str:
    """What the model answers to this conversation, by ``generate``."""
    roles = ("user", "assistant") * len(messages)
    row = {"messages": [{"role": role, "content": text} for role, text in zip(roles, messages, strict=False)]}
    file = model.parent / "asked.jsonl"
    file.write_text(json.dumps(row))
    said = CliRunner().invoke(generate, [str(model), "--prompts", str(file), *GREEDY], standalone_mode=False).stdout
    return str(json.loads(said)["text"])


def test_a_line_in_an_answer_out(model: Path) -> None:
    said = talk(model, "Hello", "", "And a tuple?")
    assert (said.code, said.notes) == (0, [])
    first = asked(model, "Hello")
    assert said.answers == [first, asked(model, "Hello", first, "And a tuple?")]


def test_reset_and_system_and_stop(model: Path) -> None:
    said = talk(model, "Hello", "/reset", "Hello", "/system Be brief.", "/reset", "Hello", "/system", "/reset", "Hello")
    assert said.answers[0] == said.answers[1] == said.answers[3] != said.answers[2]
    assert talk(model, "Hello", options=(*GREEDY, "--system", "Be brief.")).answers == [said.answers[2]]
    stop = said.answers[0][4:6]
    assert talk(model, "Hello", options=(*GREEDY, "--stop", stop)).answers == [said.answers[0].partition(stop)[0]]


def test_what_is_saved_is_what_corpora_read(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_text('{"messages": []}')  # another's line, without an end
    said = talk(
        model, "/system é", "Hello\u2028you", f"/save {file}", "/reset", "//slash", f"/save {file}", "/quit", "no"
    )
    assert "saved as line 2" in said.notes[1]
    _, first, second = (json.loads(line) for line in file.read_text().splitlines())
    told = [("system", "é"), ("user", "Hello\u2028you"), ("assistant", said.answers[0])]
    assert [(message["role"], message["content"]) for message in first["messages"]] == told
    assert second["messages"][1:] == [
        {"role": "user", "content": "/slash"}, {"role": "assistant", "content": said.answers[1]}
    ]  # fmt: skip
    document = RowReader(RowsConfig(rows=Rows.messages)).document(first, "one")
    assert [message["content"] for message in document.messages or ()] == [text for _, text in told]


def test_commands_that_cannot_be_and_help(model: Path, tmp_path: Path) -> None:
    said = talk(model, "/save", f"/save {tmp_path}/x", "/nope", "/help", "x" * 500, f"/save {tmp_path}/no/x", "Hello")
    told = "\n".join(said.notes)
    for part in ("names no file", "nothing has been said", "no command /nope", "/reset", "message is too long"):
        assert part in told
    assert len(said.answers) == 1, "the conversation goes on"
    full = talk(model, "Hello", f"/save {tmp_path}/no/x")
    assert "cannot be written" in "\n".join(full.notes)


def test_a_full_context_drops_the_oldest_turns_and_says_so(model: Path) -> None:
    lines = [f"{number} " + "word " * 12 for number in range(7)]
    said = talk(model, *lines)
    assert len(said.answers) == 7
    assert [note for note in said.notes if "the context of 400 tokens is full" in note] == said.notes
    assert "the oldest turn is no longer read" in said.notes[0]
    assert "turns are no longer read" in said.notes[-1]
    # What is left is read from its first turn on.
    left_out = int(re.findall(r"the (\d) oldest", said.notes[-1])[0])
    rest = [text for pair in zip(lines, said.answers, strict=True) for text in pair][2 * left_out : -1]
    assert said.answers[-1] == asked(model, *rest)


def test_what_is_left_out_is_still_saved(model: Path, tmp_path: Path) -> None:
    said = Conversation(prompts(model), 100)
    for number in range(5):
        said.ids(f"{number}" + "x" * 20, 10)
        said.add(f"{number}" + "x" * 20, "y" * 10)
    assert 0 < said.left_out < len(said) == 5
    said.save(tmp_path / "all.jsonl")
    assert len(json.loads((tmp_path / "all.jsonl").read_text())["messages"]) == 10
    said.reset()
    assert (len(said), said.left_out) == (0, 0)


def test_bad_input_is_three_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_llama(tmp_path / "plain", layers=1)
    for arguments, said in {
        ("plain",): "has no chat template", ("none",): "holds no model", ("plain", "--template", "nope"): "'nope'",
        ("plain", "--template", "{% if %}"): "no Jinja", ("plain", "--top-p", "0"): "--top-p 0.0",
    }.items():  # fmt: skip
        with pytest.raises(SystemExit) as caught:
            main(["chat", str(tmp_path / arguments[0]), *arguments[1:]])
        told = capsys.readouterr().err
        assert (caught.value.code, len(told.splitlines())) == (2, 3)
        assert said in told


# --- a terminal -------------------------------------------------------------------------------------------------------


class Terminal:
    """A chat on a terminal of its own; ``seen`` is all that was shown."""

    def __init__(self, *command: str) -> None:
        self._us, theirs = pty.openpty()
        env = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb"}
        command = (sys.executable, "-m", "lmgraft", "chat", *command)
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
        )
        os.close(theirs)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._us, text.encode())

    def until(self, part: str, after: int = 0, seconds: float = 60) -> int:
        """Reads on until ``part`` stands behind place ``after``; gives its end."""
        end = time.monotonic() + seconds
        while part not in self.seen[after:]:
            assert time.monotonic() < end, self.seen[-2000:]
            if select.select([self._us], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._us, 1 << 16).decode(errors="replace")
                except OSError:  # the other end is closed
                    assert part in self.seen[after:], self.seen[-2000:]
        return self.seen.index(part, after) + len(part)

    def more(self, size: int) -> None:
        """Reads on until so many characters were shown."""
        while len(self.seen) < size:
            self.seen += os.read(self._us, 1 << 16).decode(errors="replace")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._us)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    model = write_model(tmp_path / "endless", context=16384)
    one = Terminal(str(model), "--max-new-tokens", "16000")
    yield one
    one.close()


def test_ctrl_c_stops_an_answer_and_ctrl_d_ends(terminal: Terminal, tmp_path: Path) -> None:
    at = terminal.until("> ")
    terminal.type("Hello\n")
    at = terminal.until("Hello", at)
    terminal.more(at + 100)  # it comes as it is written
    os.kill(terminal.process.pid, signal.SIGINT)
    at = terminal.until("stopped", at)
    at = terminal.until("> ", at)
    for _ in range(20):  # with nothing under way; the prompt is shown a moment before it listens
        os.kill(terminal.process.pid, signal.SIGINT)
        with suppress(AssertionError):
            terminal.until("Ctrl-D or /quit ends", at, seconds=3)
            break
    at = terminal.until("Ctrl-D or /quit ends", at, seconds=1)
    for _ in range(6):  # a Ctrl-C of those above that comes late takes a line that is being typed away
        terminal.type(f"/save {tmp_path}/kept.jsonl\n")
        with suppress(AssertionError):
            terminal.until("saved as line", at, seconds=5)
            break
    at = terminal.until("saved as line", at, seconds=1)
    terminal.until("> ", at)  # what is typed before belongs to the terminal, which takes Ctrl-D for an end of nothing
    kept = (tmp_path / "kept.jsonl").read_text().splitlines()
    question, answer = json.loads(kept[0])["messages"]
    assert (question["content"], len(answer["content"]) > 50) == ("Hello", True)
    for _ in range(6):
        terminal.type("\x04")
        with suppress(subprocess.TimeoutExpired):
            terminal.process.wait(5)
            break
    assert terminal.process.poll() == 0


def test_what_a_model_says_acts_on_no_terminal(tmp_path: Path) -> None:
    from lmgraft.artifacts import tokenizer
    from lmgraft.chat import TEMPLATES

    write_llama(tmp_path / "model", layers=1)  # its 256 bytes are about equally likely: many are control characters
    tokenizer.set_chat_template(tmp_path / "model", TEMPLATES["chatml"].replace("<|im_start|>", ""))
    one = Terminal(str(tmp_path / "model"), "--max-new-tokens", "40")
    try:
        at = one.until("> ")
        one.type("a\n")
        at = one.until("\n> ", at)
        assert "<U+" in one.seen[:at]
        assert not re.search("[\0-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]", one.seen[: at - 4])
        one.type("/quit\n")
        assert one.process.wait(20) == 0
    finally:
        one.close()
