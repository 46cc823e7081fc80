"""``lmgraft tokens`` through the real command line: texts, files, tokenizers of every kind, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from token_views import TEXTS, byte_level, sentence_piece, word_piece
from warm_cli import Done, WarmCli


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``gpt/tokenizer.json`` (and nothing beside it), ``llama.json``, ``bert.json``, ``text.txt``."""
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "gpt").mkdir()
    byte_level(folder / "gpt" / "tokenizer.json")
    sentence_piece(folder / "llama.json")
    word_piece(folder / "bert.json")
    (folder / "text.txt").write_text("\n".join(TEXTS) + "\n")
    return folder


def table(said: str) -> dict[str, list[str]]:
    """Row -> its cells, of the table at the end."""
    found = {}
    for line in said.splitlines():
        match = re.fullmatch(r" ([a-z][a-z ]*?)  +(\S.*?) *", line)
        if match:
            found[match[1]] = re.split(r"  +", match[2])
    return found


def piped(args: list[str], cwd: Path, text: bytes) -> Done:
    """A command of its own: the warm one has nothing to read."""
    done = subprocess.run([sys.executable, "-m", "lmgraft", *args], cwd=cwd, input=text, capture_output=True)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


# --- what is shown --------------------------------------------------------------------------------------------------


def test_a_text_without_colour_where_it_is_piped(cli: WarmCli, place: Path) -> None:
    said = cli(["tokens", "the fox\n漢", "--tokenizer", "gpt"], place).check().out
    lines = said.splitlines()
    assert re.fullmatch(r"\[\d+:the\]\[\d+:·fox\]\[\d+:↵\]", lines[0])
    assert [re.sub(r"\d+:", "", part) for part in re.findall(r"\[.*?\]", lines[1])] == [
        "[<0xE6>]",
        "[<0xBC>]",
        "[<0xA2>]",
    ]
    assert "\x1b" not in said
    rows = table(said)
    assert rows["tokens"] == ["6"]
    assert rows["bytes per token"] == ["1.833"]
    assert rows["tokens per word"] == ["2.000"]
    assert rows["unknown tokens"] == ["none"]
    assert "[the][·fox][↵]" in cli(["tokens", "the fox\n漢", "--tokenizer", "gpt", "--no-ids"], place).check().out


def test_colours_where_they_are_wanted(cli: WarmCli, place: Path) -> None:
    args = ["tokens", "the fox 漢", "--tokenizer", "bert.json"]
    said = cli(args, place, env={"FORCE_COLOR": "1", "COLUMNS": "60"}).check().out
    first, second = said.splitlines()[:2]
    grounds = re.findall(r"\x1b\[30;48;5;(\d+)mthe\x1b\[0m|\x1b\[30;48;5;(\d+)mfox\x1b\[0m", first)
    assert len({"".join(found) for found in grounds}) == 2  # neighbours differ
    assert re.search(r"\x1b\[1;97;48;5;160m漢\x1b\[0m", first)  # unknown
    ids = re.sub(r"\x1b\[\d+m", "", second).split()
    assert len(ids) == 3
    assert ids[2] == "0"
    plain = cli(args, place, env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).check().out
    assert "\x1b" not in plain.partition("\n\n")[0]
    assert "[0:漢 unknown]" in plain


def test_nothing_that_a_text_says_acts_on_the_terminal(cli: WarmCli, place: Path) -> None:
    said = cli(["tokens", "\x1b[2Jred\x07\u202e", "--tokenizer", "gpt"], place, env={"FORCE_COLOR": "1"}).check().out
    assert "\x1b[2J" not in said
    assert "\x07" not in said
    assert "\u202e" not in said


def test_two_tokenizers_below_each_other_with_what_differs(cli: WarmCli, place: Path) -> None:
    said = cli(["tokens", "the fox\nä", "--tokenizer", "gpt", "--against", "bert.json"], place).check().out
    lines = said.splitlines()
    assert (lines[0], lines[4]) == ("gpt:", "bert.json:")
    assert lines[1].startswith("[")  # "the" lies at one place in both
    assert "]*[" not in lines[1].rpartition("[")[0].removesuffix("*")
    assert lines[2].count("*[") == 2  # both bytes of ä
    rows = table(said)
    assert rows["tokens"] == ["5", "3"]
    assert rows["unknown tokens"][0] == "none"
    assert "1 of 2 lines (50.0%) have other tokens; compared are their pieces of text" in said
    same = cli(["tokens", "text.txt", "--tokenizer", "gpt", "--against", "gpt/tokenizer.json"], place).check().out
    assert "0 of 200 lines (0.0%) have other tokens; compared are their ids" in same
    assert "*[" not in same


def test_special_tokens_are_marked_where_they_are_asked_for(cli: WarmCli, place: Path) -> None:
    args = ["tokens", "the<|end|>", "--tokenizer", "gpt"]
    assert "special" not in cli(args, place).check().out
    said = cli([*args, "--special"], place).check().out
    assert "[0:<|end|> special]" in said
    assert table(said)["tokens"] == ["2"]


def test_a_long_file_is_shown_in_part_and_counted_whole(cli: WarmCli, place: Path) -> None:
    text = (place / "text.txt").read_text()
    said = cli(["tokens", "text.txt", "--tokenizer", "gpt", "--limit", "50", "--no-ids"], place).check().out
    assert f"of {len(text):,} bytes; --limit 0 shows all." in said
    shown = said.splitlines()[0]
    assert len("".join(re.findall(r"\[(.*?)\]", shown))) in range(50, 60)
    assert text.startswith("".join(re.findall(r"\[(.*?)\]", shown)).replace("·", " "))
    whole = cli(["tokens", "text.txt", "--tokenizer", "gpt", "--limit", "0", "--no-ids"], place).check().out
    assert table(whole) == table(said)
    assert "".join(re.findall(r"\[(.*?)\]", whole.partition("\n\n")[0])).replace("·", " ").replace("↵", "\n") == text


def test_json_for_machines(cli: WarmCli, place: Path) -> None:
    text = "the 漢 fox"
    args = ["tokens", text, "--tokenizer", "gpt", "--against", "bert.json", "--json"]
    found = json.loads(cli(args, place).check().out)
    assert found["text"] == {"name": "the text", "bytes": 11, "counted_bytes": 11, "shown_bytes": 11}
    first, second = found["tokenizers"]
    joined = b"".join(
        token["text"].encode() if "text" in token else bytes.fromhex(token["bytes"]) for token in first["tokens"]
    )
    assert joined == text.encode()
    assert first["figures"]["tokens"] == len(first["tokens"])
    assert [token["text"] for token in second["tokens"] if token.get("kind") == "unknown"] == ["漢"]
    assert found["lines"] == {"lines": 1, "changed": 1, "compared": "pieces"}


def test_standard_input(place: Path) -> None:
    done = piped(["tokens", "-", "--tokenizer", "gpt"], place, b"the fox").check()
    assert "standard input: 7 bytes" in done.out
    assert "binary" in piped(["tokens", "-", "--tokenizer", "gpt"], place, b"a\0b").problem()


def test_it_starts_without_torch(place: Path) -> None:
    code = "import sys\nfrom lmgraft.cli import main\n"
    code += "try: main(['tokens', 'x', '--tokenizer', 'gpt'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'datasets', 'transformers', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


# --- which tokenizer ------------------------------------------------------------------------------------------------


def test_the_newest_runs_tokenizer_is_the_default(cli: WarmCli, finished: Path, tmp_path: Path) -> None:
    said = cli(["tokens", "some words", "--tokenizer", str(finished / "run")], tmp_path).check().out
    assert f"{finished / 'run'}:tokenizer (300 ids)" in said.replace("\n", "")
    by_stage = cli(["tokens", "some words", "--tokenizer", f"{finished / 'run'}:pretrain"], tmp_path).check().out
    assert table(by_stage) == table(said)
    (tmp_path / "runs").mkdir()
    os.symlink(finished / "run", tmp_path / "runs" / "one", target_is_directory=True)
    # A link is no run of one's own; a folder is.
    assert "no tokenizer was named" in cli(["tokens", "some words"], tmp_path).problem()
    (tmp_path / "runs" / "one").unlink()
    (tmp_path / "runs" / "two").mkdir()
    for name in ("run.json", "stages"):
        os.symlink(finished / "run" / name, tmp_path / "runs" / "two" / name)
    default = cli(["tokens", "some words"], tmp_path).check().out
    assert "runs/two:tokenizer (300 ids)" in default
    assert table(default) == table(said)


@pytest.mark.parametrize(
    ("tokenizer", "says"),
    [
        ("nothing", "nothing is no tokenizer"),
        ("empty", "empty holds no tokenizer"),
        ("text.txt", "text.txt is no tokenizer that can be read"),
        ("other.json", "other.json is no tokenizer that can be read"),
        ("broken.json", "broken.json is not JSON"),
    ],
)
def test_what_is_no_tokenizer_is_refused(cli: WarmCli, place: Path, tokenizer: str, says: str) -> None:
    (place / "empty").mkdir(exist_ok=True)
    (place / "other.json").write_text('{"model": {"type": "Magic"}}')
    (place / "broken.json").write_text('{"model": ')
    assert says in cli(["tokens", "some words", "--tokenizer", tokenizer], place).problem()
    assert says in cli(["tokens", "some words", "--tokenizer", "gpt", "--against", tokenizer], place).problem()


def test_a_stage_that_holds_none(cli: WarmCli, finished: Path) -> None:
    problem = cli(["tokens", "some words", "--tokenizer", "run:corpus"], finished).problem()
    assert "pretrain" in problem
    assert "tokenizer" in problem
    assert "did you mean tokens?" in cli(["tokens", "some words", "--tokenizer", "run:tokns"], finished).problem()


def test_a_sentence_piece_model_is_opened_by_the_part_that_can(cli: WarmCli, data: Path, tmp_path: Path) -> None:
    model = data / "tokenizer" / "llama2_tokenizer.model"
    found = json.loads(cli(["tokens", "Hello wörld", "--tokenizer", str(model), "--json"], tmp_path).check().out)
    assert [token["id"] for token in found["tokenizers"][0]["tokens"]] == [15043, 281, 1340, 430]
    (tmp_path / "cut.model").write_bytes(model.read_bytes()[:3000])
    cli(["tokens", "Hello", "--tokenizer", "cut.model"], tmp_path).problem()


# --- which text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("some/where", "some/where is not there"),
        ("missing.txt", "missing.txt is not there"),
        ("gpt", "gpt is a folder"),
        ("latin.txt", "latin.txt is not UTF-8"),
        ("binary.txt", "binary.txt is a binary file"),
    ],
)
def test_what_is_no_text_is_refused(cli: WarmCli, place: Path, text: str, says: str) -> None:
    (place / "latin.txt").write_bytes("naïve café".encode("latin-1"))
    (place / "binary.txt").write_bytes(b"ab\0cd" * 100)
    assert says in cli(["tokens", text, "--tokenizer", "gpt"], place).problem()


def test_half_characters_are_refused(place: Path) -> None:
    done = subprocess.run(
        [sys.executable.encode(), b"-m", b"lmgraft", b"tokens", b"na\xefve", b"--tokenizer", b"gpt"],
        cwd=place, capture_output=True,
    )  # fmt: skip
    assert "lone surrogate" in Done(done.returncode, done.stdout.decode(), done.stderr.decode()).problem()


def test_texts_that_only_look_a_little_like_files(cli: WarmCli, place: Path) -> None:
    for text in ("either/or is fine", "</s>", "", "e.g. this", "x" * 5000):
        assert table(cli(["tokens", text, "--tokenizer", "gpt"], place).check().out)["tokens"]
    assert "negative" in cli(["tokens", "a", "--limit", "-1"], place).problem()


# --- strangers' text ------------------------------------------------------------------------------------------------


def test_nothing_of_a_file_a_vocabulary_or_a_name_acts_on_the_terminal(cli: WarmCli, place: Path) -> None:
    evil = "\x1b[31m\x9b2J\u202e"
    content = json.loads((place / "bert.json").read_text())
    content["model"]["vocab"] |= {evil: len(content["model"]["vocab"])}
    (place / f"evil{evil}.json").write_text(json.dumps(content))
    (place / f"text{evil}.txt").write_text(f"the {evil} fox")
    args = ["tokens", f"text{evil}.txt", "--tokenizer", f"evil{evil}.json", "--against", "gpt"]
    for said in (cli(args, place).check().out, cli([*args, "--json"], place).check().out):
        assert not {"\x1b", "\x9b", "\u202e"} & set(said)
    found = json.loads(cli([*args, "--json"], place).check().out)
    assert found["text"]["name"] == f"text{evil}.txt"


@pytest.mark.parametrize(
    ("data", "fact", "remedy"),
    [
        ("汉字".encode("utf-16"), "odd name.txt is not UTF-8", "iconv -f UTF-16 -t UTF-8 'odd name.txt'"),
        (gzip.compress(b"text", mtime=0), "odd name.txt is compressed", "gunzip -c 'odd name.txt'"),
        (b"caf\xe9", "odd name.txt is not UTF-8", "if it is Latin-1: iconv -f LATIN1 -t UTF-8 'odd name.txt'"),
    ],
)
def test_text_of_another_kind_is_named_with_what_makes_it_readable(
    cli: WarmCli, place: Path, data: bytes, fact: str, remedy: str
) -> None:
    (place / "odd name.txt").write_bytes(data)
    done = cli(["tokens", "odd name.txt", "--tokenizer", "gpt"], place)
    assert done.code == 2
    assert done.err.splitlines()[0] == fact
    assert done.err.splitlines()[2] == f"  try: {remedy} | lmgraft tokens -"


def test_a_folder_of_runs_says_which_one_to_name(cli: WarmCli, place: Path) -> None:
    for name in ("2026-01-01", "2026-01-02"):
        (place / "many" / name).mkdir(parents=True)
        (place / "many" / name / "run.json").write_text("{}")
    done = cli(["tokens", "the", "--tokenizer", "many"], place)
    assert done.code == 2
    assert "it is a folder of 2 of them" in done.err
    assert "name one of them: many/2026-01-02" in done.err
