"""Several parts of one name: each under a key of its own, in recipes, on the command line and in what is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lmgraft import compose, recipe
from lmgraft.artifacts import corpus
from lmgraft.errors import Problem, UserError
from lmgraft.keyed import by_key, keyed
from lmgraft.version import several
from warm_cli import WarmCli

RECIPE = """\
defaults:
  - base
  - stage@corpus: corpus
  - data_source@corpus.sources.web: files
  - data_source@corpus.sources.books: files
  - filter@corpus.filters: [exact_dedup]
  - filter@corpus.filters.short: length
  - filter@corpus.filters.long: filter_variant
  - _self_
stages: [corpus]
corpus:
  workers: 1
  sources:
    web: {path: web}
    books: {path: books}
  filters:
    short: {min_words: 3}
  mixture:
    weights: {web: 3, books: 8}
    bytes: 3000
"""
VARIANT = """\
defaults: [/filter/length@_here_, _self_]
length: {max_words: 40}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, number in (("web", 40), ("books", 6)):
        (tmp_path / name).mkdir()
        for page in range(number):
            (tmp_path / name / f"{page:02}.txt").write_text(f"What page {page} of the {name} says. " * (1 + page % 3))
    (tmp_path / "web" / "short.txt").write_text("two words")
    (tmp_path / "web" / "long.txt").write_text("so many words " * 20)
    (tmp_path / "filter").mkdir()
    (tmp_path / "filter" / "filter_variant.yaml").write_text(VARIANT)
    (tmp_path / "mix.yaml").write_text(RECIPE)
    return tmp_path


def read(folder: Path, *overrides: str) -> recipe.Recipe:
    ref = compose.resolve(str(folder / "mix.yaml"))
    return recipe.read(compose.compose(ref, overrides), ref.name, ref.given)


def refused(folder: Path, *overrides: str) -> Problem:
    with pytest.raises(UserError) as caught:
        read(folder, *overrides)
    return caught.value.problems[0]


def parts(typed: recipe.Recipe) -> dict[str, str]:
    return {part.slot: part.config.part for part in typed.stage("corpus").parts}


def test_each_stands_at_its_key_in_the_order_of_the_defaults_list(folder: Path) -> None:
    typed = read(folder)
    assert list(parts(typed).items()) == [
        ("sources.web", "files"), ("sources.books", "files"), ("filters.exact_dedup", "exact_dedup"),
        ("filters.short", "length"), ("filters.long", "length"),
    ]  # fmt: skip
    settings = {part.slot: part.config for part in typed.stage("corpus").parts}
    assert [vars(settings[f"sources.{name}"])["path"] for name in ("web", "books")] == ["web", "books"]
    assert [vars(settings[f"filters.{name}"])["max_words"] for name in ("short", "long")] == [None, 40]
    assert [vars(settings[f"filters.{name}"])["min_words"] for name in ("short", "long")] == [3, None]
    assert settings["sources.books"] != settings["sources.web"]


def test_the_command_line_adds_swaps_takes_away_and_sets(folder: Path) -> None:
    added = read(folder, "+data_source@corpus.sources.wiki=files", "+corpus.mixture.weights.wiki=0")
    assert list(parts(added))[:3] == ["sources.web", "sources.books", "sources.wiki"]
    swapped = read(folder, "data_source@corpus.sources.web=python_docs")
    assert parts(swapped)["sources.web"] == "python_docs"
    assert swapped.notes[0].startswith("corpus.sources.web: python_docs has no path; what the recipe sets there")
    gone = read(folder, "~filter@corpus.filters.short")
    assert "filters.short" not in parts(gone)
    assert gone.notes == ("corpus.filters.short is not selected; the values that the recipe sets for it are dropped",)
    assert "filters.length" not in parts(read(folder, "filter@corpus.filters.long=length"))
    longer = next(part for part in read(folder, "corpus.filters.long.max_words=9").stage("corpus").parts[-1:])
    assert vars(longer.config)["max_words"] == 9


def test_an_installed_recipe_takes_them_too() -> None:
    ref = compose.resolve("quickstart")
    overrides = ("+data_source@corpus.sources.mine=files", "corpus.sources.mine.path=x.txt")
    cfg: Any = compose.compose(ref, overrides)
    assert list(cfg.corpus.sources) == ["files", "python_docs", "mine"]
    assert (cfg.corpus.sources.mine.part, cfg.corpus.sources.mine.path) == ("files", "x.txt")
    tracked: Any = compose.compose(ref, ("+lifecycle@lifecycle.mine=wandb",))
    assert tracked.lifecycle.mine.part == "wandb"


@pytest.mark.parametrize(
    ("override", "fact", "remedy"),
    [
        ("corpus.sources.boks.path=x", "corpus.sources.boks", "did you mean corpus.sources.books.path=VALUE?"),
        ("corpus.sources.books.pth=x", "corpus.sources.books.pth", "did you mean corpus.sources.books.path=VALUE?"),
        ("corpus.sources.books.part=hub", "corpus.sources.books.part", "data_source@corpus.sources.books=hub"),
        ("corpus.sources.books=hub", "corpus.sources.books", "corpus.sources.books.SETTING=VALUE"),
        ("data_source@corpus.sources.books=filez", "no data_source named 'filez'", "did you mean files?"),
        ("data_source@corpus.sources.books=null", "chooses no part", "~data_source@corpus.sources.books leaves"),
        ("data_source@corpus.sources.wiki=files", "cannot be", "+data_source@corpus.sources.wiki=files chooses one"),
        ("~data_source@corpus.sources.boks", "is not deleted", "did you mean ~data_source@corpus.sources.books?"),
        ("data_source@corpus.sources.books=[files,hub]", "corpus.sources.books", "=NAME chooses one"),
        ("corpus.sources.books.path=/nowhere", "corpus.sources.books.path: /nowhere does not exist", "check"),
        ("corpus.sources.books.path=null", "corpus.sources.books is not set", "corpus.sources.books.path=PATH, or"),
    ],
)
def test_what_is_said_names_the_key(folder: Path, override: str, fact: str, remedy: str) -> None:
    problem = refused(folder, override)
    assert fact in problem.fact
    assert remedy in problem.remedy


def test_a_key_holds_one_part(folder: Path) -> None:
    (folder / "mix.yaml").write_text(RECIPE.replace("sources.web: files", "sources.web: [files, drills]"))
    problem = refused(folder)
    assert problem.fact == "files and drills are both chosen for corpus.sources.web"
    assert "data_source@corpus.sources: [files, drills] takes both" in problem.remedy


def test_it_runs_and_mixes_and_explains(folder: Path, cli: WarmCli) -> None:
    done = cli(["run", "mix.yaml", "store.dir=store", "run.dir=run"], folder).check()
    assert "mixture.weights add up to 11, not to 100" in done.err
    out = next((folder / "store").rglob("funnel.json")).parent
    told = json.loads((out / "funnel.json").read_text())
    assert [row["name"] for row in told["filters"]] == ["exact_dedup", "short", "long"]
    assert [row["dropped"] for row in told["filters"][1:]] == [{"too_few_words": 1}, {"too_many_words": 1}]
    rows = told["mixture"]["sources"]
    for name, wanted in (("web", 3000 * 3 / 11), ("books", 3000 * 8 / 11)):
        documents = [document for document in corpus.documents(out) if document.id.startswith(f"{name}/")]
        given = sum(len((document.text or "").encode()) for document in documents)
        assert rows[name]["bytes"] == given
        assert 0 <= wanted + 1 - given < 121, name
    assert rows["books"]["epochs"] > 4 > 1 > rows["web"]["epochs"]
    again = cli(["run", "mix.yaml", "store.dir=store", "run.dir=again"], folder).check()
    assert "reused" in again.out + again.err
    said = cli(["explain", "mix.yaml", "corpus.filters.long.max_words"], folder).check().out
    assert "= 40" in said
    assert "filter_variant.yaml: 40   <- this one counts" in said
    assert "owned by: filter length" in said


def test_a_key_changes_the_digest_of_the_work(folder: Path, cli: WarmCli) -> None:
    cli(["run", "mix.yaml", "store.dir=store", "run.dir=one"], folder).check()
    text = RECIPE.replace("books: {path", "tomes: {path").replace("sources.books", "sources.tomes")
    (folder / "mix.yaml").write_text(text.replace("books: 8", "tomes: 8"))
    done = cli(["run", "mix.yaml", "store.dir=store", "run.dir=two"], folder).check()
    assert "1 built" in done.out  # ids begin with the key


# --- the pieces -------------------------------------------------------------------------------------------------------


def test_which_places_take_several() -> None:
    assert several("filter", "corpus.filters")
    assert several("filter", "")
    assert several("lifecycle", "lifecycle")
    assert not several("filter", "corpus.filters.mine")
    assert not several("lifecycle", "lifecycle.mine")
    assert not several("optimizer", "pretrain.optimizer")


def test_a_problem_is_said_by_key() -> None:
    problem = Problem("files.path: x is empty", "files hold 0 bytes", "set files.path=y, or myfiles.path=z")
    told = by_key(problem, "data_source", "corpus.sources.books")
    assert told.fact == "corpus.sources.books.path: x is empty"
    assert told.cause == problem.cause
    assert told.remedy == "set corpus.sources.books.path=y, or myfiles.path=z"
    assert by_key(problem, "data_source", "corpus.sources.files") is problem
    assert by_key(Problem("a.txt: line 3", "", ""), "data_source", "corpus.sources.books").fact == "a.txt: line 3"
    with (
        pytest.raises(UserError, match=r"corpus\.sources\.books: a\.gz is cut short"),
        keyed("data_source", "corpus.sources.books"),
    ):
        raise UserError(Problem("files: a.gz is cut short", "", ""))
