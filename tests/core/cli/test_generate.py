"""``lmgraft generate``: options, pipes, files of prompts; and what ends a text."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from lmgraft.cli import main
from lmgraft.cli._prompts import read_rows
from lmgraft.cli.generate import generate
from lmgraft.generation.prompts import prompts
from writing_model import write_model

Ask = Callable[..., str]
GREEDY = ("--temperature", "0", "--max-new-tokens", "40")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny", end=1.0)


def ask(*arguments: str, stdin: bytes | None = None) -> str:
    done = CliRunner().invoke(generate, arguments, input=stdin, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Ask:
    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["generate", *arguments])
        said = capsys.readouterr()
        assert (caught.value.code, said.out) == (2, "")
        assert len([line for line in said.err.splitlines() if not line.startswith("...")]) % 3 == 0
        return said.err

    return run


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("options", [(), ("--template", "solar")])
def test_an_argument_that_is_no_utf8(model: Path, refused: Ask, options: tuple[str, ...]) -> None:
    """Python reads such bytes of a command line as halves of pairs of surrogates."""
    said = refused(str(model), os.fsdecode(b"a\xed"), *options)
    assert "is no text" in said.splitlines()[0]
    assert "U+DCED" in said.splitlines()[1]


def test_a_prompt_of_a_pipe_is_the_same_prompt(model: Path) -> None:
    said = ask(str(model), "naïve, é", *GREEDY)
    assert len(said) == 41
    assert ask(str(model), "-", *GREEDY, stdin="naïve, é\n".encode()) == said
    assert ask(str(model), "naïve, é", *GREEDY, "--no-chat") != said


def test_stop_strings_and_the_length(model: Path) -> None:
    said = ask(str(model), "Hello", *GREEDY).rstrip("\n")
    stops = ("--stop", "\n\n", "--stop", said[7:10])
    assert ask(str(model), "Hello", *GREEDY, *stops) == said[: said.index(said[7:10])] + "\n"
    assert len(ask(str(model), "Hello", *GREEDY[:2], "--max-new-tokens", "3")) == 4


def test_drawing_obeys_seed_and_options(model: Path) -> None:
    options = {name: ask(str(model), "Hello", "--max-new-tokens", "60", *more) for name, more in {
        "first": ("--seed", "1"), "again": ("--seed", "1"), "second": ("--seed", "2"),
        "greedy": ("--temperature", "0"), "k": ("--top-k", "1"), "p": ("--top-p", "1e-9"),
        "penalty": ("--temperature", "0", "--repetition-penalty", "1.5"),
    }.items()}  # fmt: skip
    assert options["first"] == options["again"] != options["second"]
    assert options["greedy"] == options["k"] == options["p"] != options["penalty"]


def test_a_chat_template_that_is_no_text(model: Path, tmp_path: Path, refused: Ask) -> None:
    shutil.copytree(model, tmp_path / "model")
    config = tmp_path / "model/tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": None}))
    (tmp_path / "model/chat_template.jinja").write_bytes(b"{{ messages }}\xff")
    assert "chat_template.jinja cannot be read" in refused(str(tmp_path / "model"), "Hello")


def test_every_end_id_of_the_generation_config_ends_a_text(model: Path, tmp_path: Path) -> None:
    said = ask(str(model), "Hello", *GREEDY, "--no-chat")[5:-1]
    from lmgraft.artifacts import tokenizer

    letter = next(character for character in said[3:] if character not in said[:3])
    folder = tmp_path / "model"
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (letter_id,) = tokenizer.load(folder).encode_batch([letter])[0]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [256, letter_id]}))
    expected = "Hello" + said[: said.index(letter)] + "\n"
    assert ask(str(folder), "Hello", *GREEDY, "--no-chat") == expected
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": letter_id}))
    assert ask(str(folder), "Hello", *GREEDY, "--no-chat") == expected
    (folder / "generation_config.json").unlink()
    assert ask(str(folder), "Hello", *GREEDY, "--no-chat") == f"Hello{said}\n"


def test_a_text_begins_as_the_models_documents_do(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    assert prompts(folder).text("a") == [256, *prompts(folder).tokenizer.encode_batch(["a"])[0]]
    for begin, first in ((7, 7), (None, 256), (258, 256), ("<s>", 256)):
        (folder / "config.json").write_text(json.dumps({**config, "bos_token_id": begin}))
        assert prompts(folder).text("a")[0] == first


def test_another_template_and_one_in_a_file_of_its_own(model: Path, tmp_path: Path) -> None:
    from lmgraft.chat import TEMPLATES

    plain = write_model(tmp_path / "plain", template=None, end=1.0)
    solar = ask(str(model), "Hello", *GREEDY)
    assert ask(str(plain), "Hello", *GREEDY, "--template", "solar") == solar
    assert ask(str(model), "Hello", *GREEDY, "--template", "alpaca") != solar
    (plain / "chat_template.jinja").write_text(TEMPLATES["solar"])
    assert ask(str(plain), "Hello", *GREEDY) == solar
    (plain / "chat_template.jinja").unlink()
    config = json.loads((plain / "tokenizer_config.json").read_text())
    config["chat_template"] = [
        {"name": "tool_use", "template": "x"},
        {"name": "default", "template": TEMPLATES["solar"]},
    ]
    (plain / "tokenizer_config.json").write_text(json.dumps(config))
    assert ask(str(plain), "Hello", *GREEDY) == solar


def test_int8_writes_a_text(model: Path) -> None:
    assert len(ask(str(model), "Hello", *GREEDY, "--precision", "int8")) == 41


# --- files of prompts -------------------------------------------------------------------------------------------------


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, (
        {"prompt": "Hello", "id": 7}, {"prompt": "a\u2028b"},
        {"messages": [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Hi"}]},
        {"prompt": "Hello", "seed": 3}, {"conversations": 1, "prompt": "é"}, *({"prompt": str(n)} for n in range(6)),
    ))) + "\n\n")  # fmt: skip
    return file


def test_answers_are_those_of_one_prompt_alone(model: Path, questions: Path) -> None:
    options = ("--max-new-tokens", "50", "--at-once", "4")
    found = rows(ask(str(model), "--prompts", str(questions), *options))
    assert [row.get("id") for row in found[:2]] == [7, None]
    assert found[0]["text"] + "\n" == ask(str(model), "Hello", *options[:2])
    assert found[3]["text"] + "\n" == ask(str(model), "Hello", *options[:2], "--seed", "3")
    assert found[2]["text"] + "\n" == ask(str(model), "Hi", *options[:2], "--system", "Brief.")
    assert found[2]["messages"][1]["content"] == "Hi"
    assert {row["finish_reason"] for row in found} <= {"stop", "length"}
    assert all(row["tokens"] == 50 for row in found if row["finish_reason"] == "length")
    assert found == rows(ask(str(model), "--prompts", str(questions), "--max-new-tokens", "50", "--at-once", "1"))


def test_a_text_file_has_a_prompt_a_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("Hello\n\né\n")
    found = rows(ask(str(model), "--prompts", str(tmp_path / "p.txt"), *GREEDY, "--no-chat"))
    assert [row["prompt"] for row in found] == ["Hello", "é"]
    assert "Hello" + found[0]["text"] + "\n" == ask(str(model), "Hello", *GREEDY, "--no-chat")


def test_answers_gather_in_a_file_that_is_never_overwritten(
    model: Path, questions: Path, tmp_path: Path, refused: Ask
) -> None:
    out = tmp_path / "answers.jsonl"
    command = (str(model), "--prompts", str(questions), "--out", str(out), *GREEDY)
    assert ask(*command) == ""
    whole = out.read_text()
    assert ask(str(model), "--prompts", str(questions), *GREEDY) == whole
    assert [row["prompt"] for row in rows(whole)[:2]] == ["Hello", "a\u2028b"]
    assert "é" in whole
    assert "is there already" in refused(*command)
    assert out.read_text() == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == ["answers.jsonl", "questions.jsonl"]


def test_a_stopped_file_goes_on_where_it_was(model: Path, questions: Path, tmp_path: Path, refused: Ask) -> None:
    slow = write_model(tmp_path / "slow", context=4096)
    out = tmp_path / "answers.jsonl"
    options = ["--prompts", str(questions), "--out", str(out), "--temperature", "0", "--at-once", "1"]
    options += ["--max-new-tokens", "300"]
    command = [sys.executable, "-m", "lmgraft", "generate", str(slow), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    part = tmp_path / "answers.jsonl.part"
    while not part.is_file() or part.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 75, said
    kept = part.read_bytes()
    assert 3 <= kept.count(b"\n") < 12
    assert not out.exists()
    assert "other options" in refused(str(slow), *options, "--top-k", "3")
    part.write_bytes(kept + b'{"prompt": "a half wri')  # as a crash would leave it
    ask(str(slow), *options)
    assert out.read_bytes().startswith(kept.split(b"\n", 1)[1])
    assert not part.exists()
    anew = tmp_path / "anew.jsonl"
    ask(str(slow), *options[:3], str(anew), *options[4:])
    assert anew.read_bytes() == out.read_bytes()


def test_bad_rows_are_named(tmp_path: Path, model: Path, refused: Ask) -> None:
    file = tmp_path / "p.jsonl"
    for line, said in {
        "{": "p.jsonl:2 is no JSON", "[]": "p.jsonl:2 holds no prompt", '{"text": "a"}': "p.jsonl:2 holds no prompt",
        '{"prompt": 1}': "p.jsonl:2 holds no prompt", '{"prompt": "\\ud800"}': "p.jsonl:2 is no JSON",
        '{"prompt": "a", "messages": []}': "p.jsonl:2 holds no prompt",
        '{"messages": [{"role": "user"}]}': "'content'", '{"prompt": "a", "seed": -1}': "seed is -1",
        '{"messages": [{"role": "tool", "content": "a"}]}': "cannot write",
    }.items():  # fmt: skip
        file.write_text('{"prompt": "a"}\n' + line + "\n")
        assert said in refused(str(model), "--prompts", str(file)), line
    file.write_text("\n")
    assert "holds no prompt" in refused(str(model), "--prompts", str(file))
    assert "no such file" in refused(str(model), "--prompts", str(tmp_path / "none.jsonl"))
    (tmp_path / "p.csv").write_text("a")
    assert "'.csv'" in refused(str(model), "--prompts", str(tmp_path / "p.csv"))
    (tmp_path / "p.txt").write_bytes(b"\xff")
    assert "no UTF-8" in refused(str(model), "--prompts", str(tmp_path / "p.txt"))
    (tmp_path / "p.txt").write_text("a\n" + "b" * 300 + "\n")
    assert "p.txt:2 is too long" in refused(str(model), "--prompts", str(tmp_path / "p.txt"))
    assert len(read_rows(tmp_path / "p.txt")) == 2


def test_bad_options_are_three_lines_each(model: Path, tmp_path: Path, refused: Ask) -> None:
    bad = ["--temperature", "-1", "--top-p", "2", "--top-k", "-1", "--seed", "-1", "--repetition-penalty", "0"]
    said = refused(str(model), "a", *bad, "--stop", "", "--max-new-tokens", "0").split("\n")
    assert [line.split()[0] for line in said[:15:3]] == [
        "--max-new-tokens", "--temperature", "--top-k", "--top-p", "--repetition-penalty"
    ]  # fmt: skip
    assert "there is no prompt" in refused(str(model))
    assert "both given" in refused(str(model), "a", "--prompts", "b.txt")
    assert "without --prompts" in refused(str(model), "a", "--out", "b")
    assert "too long" in refused(str(model), "a" * 300)
    assert "no chat template 'nope'" in refused(str(model), "a", "--template", "nope")
    plain = write_model(tmp_path / "plain", template=None)
    assert "has no chat template" in refused(str(plain), "a", "--chat")
    assert "nowhere to stand" in refused(str(plain), "a", "--system", "b")
    (plain / "generation_config.json").write_text('{"eos_token_id": "2"}')
    assert "eos_token_id is '2'" in refused(str(plain), "a")
