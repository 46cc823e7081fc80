"""What is said where a recipe does not compose: the fact with its key or file, the cause, and what to type instead."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from lmgraft.errors import UserError  # noqa: E402
from recipe_text import RECIPE, Wrong, composed, three_lines  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(RECIPE)
    return tmp_path


WRONG = [
    # Keys.
    Wrong("a key of a part", ("pretrain.optimizer.lrr=1",), fact="pretrain.optimizer.lrr (the command line)",
          cause="optimizer adamw has no key 'lrr'; it has lr, ", remedy="did you mean pretrain.optimizer.lr=VALUE?"),
    Wrong("a key of a stage", ("pretrain.stepz=1",), fact="pretrain.stepz (the command line)",
          cause="stage train has no key 'stepz'; it has ", remedy="did you mean pretrain.steps=VALUE?"),
    Wrong("a key below a key that is not there", ("pretrian.steps=1",), fact="there is no key pretrian",
          cause="corpus, tokenizer, tokens, pretrain", remedy="did you mean pretrain.steps=VALUE?"),
    Wrong("a part among many", ("corpus.filters.lenght.min_chars=3",), fact="corpus.filters.lenght",
          cause="it has length, exact_dedup", remedy="did you mean corpus.filters.length.min_chars=VALUE?"),
    Wrong("a key below one that is not there, behind another that it is a piece of",
          ("pretrain.steps=1", "train.lr=2"), fact="there is no key train", remedy="did you mean pretrain.lr=VALUE?"),
    Wrong("a key like nothing", ("zzz=1",), fact="there is no key zzz", remedy="mine.yaml --cfg job"),
    Wrong("a key of a part, in the file", old="{lr: 2e-3}", new="{lrr: 2e-3}", fact="mine.yaml",
          cause="optimizer adamw has no key 'lrr'; it has lr, ", remedy="did you mean pretrain.optimizer.lr"),
    Wrong("a key of a stage, in the file", old="  steps: 250", new="  stepz: 250", fact="mine.yaml",
          cause="stage train has no key 'stepz'", remedy="did you mean pretrain.steps"),
    Wrong("a key added to a part", ("+pretrain.optimizer.lrr=1",), fact="pretrain.optimizer.lrr",
          cause="optimizer adamw has no key 'lrr'", remedy="did you mean pretrain.optimizer.lr"),
    Wrong("a key added to a stage", ("+pretrain.stepz=1",), fact="pretrain.stepz",
          cause="stage train has no key 'stepz'"),
    Wrong("a new entry of a mapping", ("corpus.sources.files.columns.text=body",),
          fact="there is no key corpus.sources.files.columns.text yet", cause="a mapping",
          remedy="+corpus.sources.files.columns.text=body"),
    # Values.
    Wrong("a word for a number", ("pretrain.steps=many",),
          fact="pretrain.steps cannot take that value (the command line)",
          cause="many", remedy="int"),
    Wrong("a word for a float", ("pretrain.optimizer.lr=high",), fact="pretrain.optimizer.lr", cause="high",
          remedy="float"),
    Wrong("a choice", ("pretrain.precision=float64",), fact="pretrain.precision",
          cause="expected one of [auto, float32, bfloat16]", remedy="pretrain.precision="),
    Wrong("a word for a list", ("corpus.fallback=python_docs",), fact="corpus.fallback",
          remedy="corpus.fallback=[python_docs]"),
    Wrong("null for a list", ("pretrain.trainable_layers=null",), fact="pretrain.trainable_layers cannot",
          cause="it takes no null", remedy="pretrain.trainable_layers=[]"),
    Wrong("null in a list", ("pretrain.trainable_layers=[null]",), fact="pretrain.trainable_layers[0] cannot",
          cause="it takes no null", remedy="pretrain.trainable_layers=[VALUE]"),
    Wrong("null for a number", ("pretrain.steps=null",), fact="pretrain.steps", remedy="int"),
    Wrong("a mapping for a number", ("pretrain.steps={a:1}",), fact="pretrain.steps", remedy="int"),
    Wrong("a word for a number, in the file", old="  steps: 250", new="  steps: many", fact="pretrain.steps",
          cause="many",
          remedy="int"),
    Wrong("a list for a stage, in the file", old="pretrain:\n  steps: 250\n  optimizer: {lr: 2e-3}",
          new="pretrain: [1]",
          fact="pretrain", remedy="pretrain"),
    # Parts.
    Wrong("a plain value for a part", ("pretrain.optimizer=adamw",), fact="pretrain.optimizer=adamw is a plain value",
          remedy="optimizer@pretrain.optimizer=adamw"),
    Wrong("a plain value for a part, unknown", ("pretrain.optimizer=lion",),
          fact="pretrain.optimizer=lion is a plain value",
          remedy="(installed: adamw)"),
    Wrong("a plain value for a part, in the file", old="{lr: 2e-3}", new="adamw", fact="pretrain.optimizer",
          remedy="optimizer@pretrain.optimizer: adamw"),
    Wrong("a plain list for parts, in the file", old="{length: {min_chars: 200}}", new="[length]",
          fact="corpus.filters",
          remedy="filter@corpus.filters: [length]"),
    Wrong("a null for a part chosen by its group", ("optimizer@pretrain.optimizer=null",),
          fact="optimizer@pretrain.optimizer",
          remedy="pretrain.optimizer"),
    # Groups and names.
    Wrong("a group misspelt", ("optimiser@pretrain.optimizer=adamw",), fact="there is no group 'optimiser'",
          remedy="did you mean optimizer@pretrain.optimizer?"),
    Wrong("a place misspelt", ("optimizer@pretrain.optimiser=adamw",), fact="optimizer@pretrain.optimiser",
          cause="nothing there", remedy="optimizer@pretrain.optimizer"),
    Wrong("a group without its place", ("optimizer=adamw",), fact="optimizer", remedy="optimizer@pretrain.optimizer"),
    Wrong("a group misspelt, in the file", old="- optimizer@", new="- optimiser@", fact="optimiser",
          remedy="did you mean optimizer"),
    Wrong("a place misspelt, in the file", old="@pretrain.optimizer:", new="@pretrain.optimiser:",
          fact="pretrain.optimiser",
          cause="has no key 'optimiser'", remedy="optimizer@pretrain.optimizer"),
    Wrong("a part that is not installed", ("optimizer@pretrain.optimizer=adam",),
          fact="there is no optimizer named 'adam'",
          cause="installed: adamw", remedy="did you mean adamw?"),
    Wrong("a part of another seam", ("optimizer@pretrain.optimizer=cosine",),
          fact="there is no optimizer named 'cosine'",
          cause="cosine is a schedule"),
    Wrong("a part among many that is not installed", ("filter@corpus.filters=[lenght]",),
          fact="no filter named 'lenght'",
          cause="exact_dedup, ", remedy="did you mean length?"),
    Wrong("a part that is not installed, in the file", old=": adamw", new=": lion",
          fact="there is no optimizer named 'lion' (", cause="installed: adamw", remedy="pip install"),
    Wrong("a kind that is not installed", old="stage@pretrain: train", new="stage@pretrain: trian",
          fact="there is no stage named 'trian'", remedy="did you mean train?"),
    Wrong("a tracker that is not installed", ("+lifecycle@lifecycle=[wandbb]",), fact="no lifecycle named 'wandbb'"),
    Wrong("a config that is not there", old="- base", new="- bass", fact="there is no config bass",
          remedy="did you mean base?"),
    # The defaults list.
    Wrong("an override before others", old="  - _self_",
          new="  - override hydra/launcher: basic\n  - stage@more: tokens",
          fact="mine.yaml", remedy="end"),
    Wrong("an override before a list", old="  - filter@", new="  - override hydra/launcher: basic\n  - filter@",
          fact="mine.yaml", remedy="end"),
    Wrong("two of _self_", old="  - _self_", new="  - _self_\n  - _self_", fact="mine.yaml", cause="_self_"),
    Wrong("an override of nothing", old="  - _self_",
          new="  - _self_\n  - override optimizer@pretrain.optimiser: adamw",
          fact="optimizer@pretrain.optimiser (", cause="nothing there"),
    Wrong("a group twice", old="  - _self_", new="  - optimizer@pretrain.optimizer: adamw\n  - _self_",
          fact="optimizer@pretrain.optimizer", cause="twice"),
    Wrong("two choices of one group", old="  - _self_", new="  - schedule@pretrain.schedule: step_decay\n  - _self_",
          fact="schedule@pretrain.schedule", remedy="override schedule@pretrain.schedule: step_decay"),
    Wrong("itself", old="  - base", new="  - mine", fact="mine.yaml includes itself", cause="mine.yaml -> mine.yaml"),
    # Overrides that do not parse, or mean something else.
    Wrong("no equals sign", ("pretrain.steps",), fact="'pretrain.steps' does not parse", remedy="KEY=VALUE"),
    Wrong("a space in the key", ("a b=3",), fact="'a b=3' does not parse", remedy="KEY=VALUE"),
    Wrong("an open bracket", ("pretrain.steps=[1",), fact="'pretrain.steps=[1' does not parse", remedy="quote"),
    Wrong("an option's dashes", ("--steps=3",), fact="'--steps=3' does not parse"),
    Wrong("an unknown function", ("pretrain.steps=foo(1)",), fact="'pretrain.steps=foo(1)' does not parse",
          cause="foo"),
    Wrong("a special token", ("data.path=<|end|>",), fact="'data.path=<|end|>' does not parse",
          remedy="quote it: 'data.path=\"<|end|>\"'"),
    Wrong("special tokens", ("corpus.fallback=[<|a|>, <|b|>]",), fact="does not parse",
          remedy="quote it: 'corpus.fallback=[\"<|a|>\",\"<|b|>\"]'"),
    Wrong("a key added that is there", ("+pretrain.steps=3",), fact="+pretrain.steps=3 adds nothing",
          cause="pretrain.steps is there already", remedy="pretrain.steps=3"),
    Wrong("an open quote", ("data.path='a",), fact="does not parse", remedy="quote"),
    Wrong("no key", ("=3",), fact="'=3'", remedy="KEY=VALUE"),
    Wrong("nothing", ("",), fact="''", remedy="KEY=VALUE"),
    Wrong("a sweep without --multirun", ("pretrain.steps=1,2",), fact="pretrain.steps=1,2", remedy="--multirun"),
    Wrong("a choice() without --multirun", ("pretrain.steps=choice(1,2)",), fact="pretrain.steps=choice(1,2)",
          remedy="--multirun"),
    Wrong("a home folder", ("run.dir=~/a",), fact="'run.dir=~/a' does not parse", cause="quoted",
          remedy="\"run.dir='~/a'\""),
    Wrong("all that do not parse", ("a b=3", "nothing"), fact="'a b=3' does not parse"),
    Wrong("a number for a part", ("schedule@pretrain.schedule=3",), fact="schedule@pretrain.schedule=3",
          remedy="of constant, cosine"),
    Wrong("a choice added that is there", ("+optimizer@pretrain.optimizer=adamw",), fact="optimizer@pretrain.optimizer",
          cause="twice", remedy="optimizer@pretrain.optimizer=adamw replaces it"),
    Wrong("another choice added", ("+schedule@pretrain.schedule=step_decay",), fact="schedule@pretrain.schedule",
          cause="another part", remedy="schedule@pretrain.schedule=step_decay replaces it"),
    # Deletions.
    Wrong("a choice taken away that is not there", ("~optimizer@pretrain.optimiser",), fact="pretrain.optimiser",
          cause="nothing there", remedy="~optimizer@pretrain.optimizer"),
    Wrong("a setting of another value taken away", ("~seed=3",), fact="~seed=3", cause="0", remedy="~seed"),
    Wrong("a setting taken away", ("~pretrain.steps",), fact="pretrain.steps", cause="cannot be taken away"),
    Wrong("what is not there taken away", ("~zzz",), fact="zzz", cause="no key"),
    Wrong("filters taken away", ("~filter@corpus.filters",), fact="filter@corpus.filters",
          remedy="filter@corpus.filters=[]"),
    # Files.
    Wrong("no YAML", new="a: [1\nb: 2\n", fact="mine.yaml is no valid YAML", cause="line 26"),
    Wrong("a tab", new="a:\n\tb: 1\n", fact="mine.yaml is no valid YAML", cause="'\\t'"),
    Wrong("a key twice", new="pretrain: {steps: 3}\n", fact="mine.yaml is no valid YAML",
          cause="duplicate key pretrain"),
    Wrong("a bad header", old="defaults:\n", new="# @package a b\ndefaults:\n", fact="mine.yaml"),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=[wrong.name for wrong in WRONG])
def test_what_is_said(wrong: Wrong, folder: Path) -> None:
    file = folder / "mine.yaml"
    file.write_text(wrong.text())
    with pytest.raises(UserError) as error:
        composed(file, *wrong.overrides)
    first = error.value.problems[0]
    assert wrong.fact in first.fact
    assert wrong.cause in first.cause
    assert wrong.remedy in first.remedy
    three_lines(error.value)
