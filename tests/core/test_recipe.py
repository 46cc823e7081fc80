"""A composed config becomes a typed recipe: what is in it, and what is said of each mistake before any work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from lmgraft import compose  # noqa: E402
from lmgraft.errors import UserError  # noqa: E402
from lmgraft.recipe import Recipe, StageNode, read  # noqa: E402
from recipe_text import RECIPE, Wrong, composed, three_lines  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(RECIPE)
    return tmp_path


STAGES = "stages: [corpus, tokenizer, tokens, pretrain]"

WRONG = [
    # The root.
    Wrong("a device", ("device=gpu",), fact="device=gpu", cause="auto, cpu, cuda, mps", remedy="device=auto"),
    Wrong("a precision", ("precision=fp16",), fact="precision=fp16", cause="auto, float32, bfloat16",
          remedy="precision=auto"),
    Wrong("a seed", ("seed=x",), fact="seed=x", cause="whole number", remedy="seed=0"),
    Wrong("no list of stages", ("stages=x",), fact="stages", cause="order", remedy="stages: ["),
    Wrong("no stages", ("stages=[]",), fact="stages", cause="order", remedy="stages: ["),
    Wrong("stages set to null", ("stages=null",), fact="stages", cause="order", remedy="stages: ["),
    Wrong("a stage twice", ("stages=[corpus,corpus]",), fact="stages names corpus twice", remedy="name of its own"),
    Wrong("a root key that nothing uses", new="notes: 1\n", fact="notes is set and never used",
          remedy="take notes out"),
    Wrong("a root key misspelt", new="seeed: 1\n", fact="seeed is set and never used", remedy="did you mean seed?"),
    Wrong("a stage's settings misspelt", new="pretran: {steps: 1}\n", fact="pretran is set and never used",
          remedy="did you mean pretrain?"),
    Wrong("a key with a dot in it", new="pretrain.steps: 3\n", fact="pretrain.steps", remedy="pretrain"),
    Wrong("a root key added", ("+zzz=1",), fact="zzz is set and never used", remedy="take zzz out"),
    Wrong("a reserved key that means nothing", new="requires: [foo]\n", fact="requires"),
    Wrong("an empty recipe", old=RECIPE, new="\n", fact="stages", remedy="stages"),
    Wrong("a recipe of base alone", old=RECIPE, new="defaults: [base]\n", fact="stages is missing", remedy="stages"),
    Wrong("a recipe without base", old="  - base\n", new="", fact="mine", remedy="- base"),
    # Stages and their parts.
    Wrong("a stage without a kind", ("stages=[corpus,tokenizer,tokens,pretrian]",), fact="stage pretrian has no kind",
          cause="no kind of stage is bound to it", remedy="did you mean pretrain?"),
    Wrong("a stage replaced by a value", ("pretrain=train",), fact="pretrain", remedy="stage@pretrain=train"),
    Wrong("a stage set to null", ("pretrain=null",), fact="pretrain", remedy="stage"),
    Wrong("a stage taken away", ("~pretrain",), fact="pretrain", remedy="stages"),
    Wrong("a slot with values and no part", old="  - optimizer@pretrain.optimizer: adamw\n", new="",
          fact="pretrain.optimizer has no part", cause="no optimizer is chosen",
          remedy="optimizer@pretrain.optimizer=NAME, of adamw"),
    Wrong("a slot that may be empty, with values and no part", old="  steps: 250\n",
          new="  steps: 250\n  adapter: {rank: 4}\n", fact="pretrain.adapter has no part",
          cause="no adapter is chosen", remedy="pretrain.adapter=null for none"),
    Wrong("a slot without a part", old="  - objective@pretrain.objective: causal_lm\n", new="",
          fact="pretrain.objective is empty", remedy="objective@pretrain.objective=NAME, of causal_lm"),
    Wrong("a slot set to null", ("pretrain.optimizer=null",), fact="pretrain.optimizer is empty",
          remedy="optimizer@pretrain.optimizer=NAME"),
    Wrong("no source", ("data_source@corpus.sources=[]",), fact="corpus.sources is empty",
          remedy="data_source@corpus.sources=[NAME]"),
    Wrong("a slot set to a reference", ("pretrain.optimizer=${data}",), fact="pretrain.optimizer"),
    Wrong("a plain list for parts", ("corpus.filters=[length]",), fact="corpus.filters=[length] is a plain value",
          remedy="filter@corpus.filters=[length]"),
    Wrong("a plain name for parts", ("corpus.filters=length",), fact="corpus.filters=length is a plain value",
          remedy="filter@corpus.filters=[length]"),
    Wrong("null for parts", ("corpus.filters=null",), fact="corpus.filters=null", remedy="filter@corpus.filters=[]"),
    Wrong("a reference for parts", ("corpus.filters=${data}",), fact="corpus.filters"),
    Wrong("a value for one of many", ("corpus.filters.length=3",), fact="corpus.filters.length is set to a plain value",
          cause="settings of the filter length", remedy="corpus.filters.length.SETTING=VALUE"),
    Wrong("one of many under another name", ("+corpus.filters.again={part:length}",), fact="corpus.filters.again",
          remedy="filter@corpus.filters=["),
    Wrong("a part's name by hand", ("pretrain.optimizer.part=cosine",), fact="pretrain.optimizer.part=cosine",
          cause="never set by hand", remedy="optimizer@pretrain.optimizer="),
    Wrong("one of many's name by hand", ("corpus.filters.length.part=exact_dedup",),
          fact="corpus.filters.length.part=exact_dedup", cause="never set by hand", remedy="filter@corpus.filters=["),
    Wrong("a stage's kind by hand", ("pretrain.kind=corpus",), fact="pretrain.kind=corpus", cause="never set by hand",
          remedy="stage@pretrain=corpus"),
    # Values.
    Wrong("a setting without a default", old="  steps: 250\n", new="", fact="pretrain.steps is not set",
          cause="it has no default", remedy="pretrain.steps=VALUE"),
    Wrong("a value out of range", ("pretrain.optimizer.lr=-1",), fact="pretrain.optimizer.lr", cause="must be above 0",
          remedy="pretrain.optimizer.lr=VALUE; lmgraft explain mine pretrain.optimizer.lr"),
    Wrong("a value that does not go with another", ("corpus.fallback=[nope]",), fact="corpus.fallback",
          cause="'nope', which is not among the sources", remedy="corpus.fallback="),
    # References.
    Wrong("a dead reference to a value", ("corpus.sources.files.path=${dat.path}",), fact="corpus.sources.files",
          cause="dat.path", remedy="${"),
    Wrong("a dead reference in the file", old='"${data.path}"', new='"${data.pth}"', fact="corpus.sources.files",
          cause="data.pth", remedy="data.path"),
    Wrong("a dead reference of a reference", ("data.path=${nope.a}",), fact="data.path", cause="nope.a"),
    Wrong("a dead reference at the root", ("seed=${nope}",), fact="seed", cause="nope"),
    Wrong("a dead reference for the device", ("device=${nope}",), fact="device", cause="nope"),
    Wrong("a dead reference for the run", ("run.dir=${nope}",), fact="run.dir", cause="nope"),
    Wrong("a dead reference for the stages", ("stages=${nope}",), fact="stages", cause="nope"),
    Wrong("a dead reference for an input", ("pretrain.data=${nope}",), fact="pretrain.data", cause="nope"),
    Wrong("a reference to itself", ("data.path=${data.path}",), fact="data.path", cause="itself"),
    Wrong("a reference of the wrong type", ("pretrain.steps=${data}",), fact="pretrain.steps"),
    Wrong("an environment variable that is not set", ("data.path=${oc.env:LMGRAFT_NO_SUCH}",), fact="data.path",
          cause="LMGRAFT_NO_SUCH"),
    Wrong("two references to each other", ("+a=${b}", "+b=${a}"), fact="a=${b}", cause="itself"),
    Wrong("a stage set to a reference", ("pretrain=${corpus}",), fact="pretrain=${corpus}",
          remedy="stage@pretrain=KIND"),
    Wrong("a stage's part by hand", ("pretrain.part=corpus",), fact="pretrain.part=corpus", cause="never set by hand",
          remedy="stage@pretrain=corpus"),
    Wrong("a folder that is a list", ("run.dir=[a]",), fact="run.dir", remedy="run.dir=PATH"),
    # Inputs.
    Wrong("a stage that comes later", old=STAGES, new="stages: [tokenizer, corpus, tokens, pretrain]",
          fact="tokenizer.corpus=corpus", cause="comes later",
          remedy="move corpus before tokenizer"),
    Wrong("a stage that is not in the list", ("stages=[tokenizer]",), fact="tokenizer.corpus=corpus",
          cause="not among `stages`", remedy="add it to stages"),
    Wrong("an input misspelt", ("pretrain.data=tokns",), fact="pretrain.data=tokns", cause="not among `stages`",
          remedy="did you mean tokens?"),
    Wrong("one of several that makes something else", ("pretrain.more_data=[corpus]",),
          fact="pretrain.more_data=corpus", remedy="pretrain.more_data=[tokens]"),
    Wrong("an input of the wrong kind", ("pretrain.data=tokenizer",), fact="pretrain.data=tokenizer",
          cause="that stage makes a tokenizer", remedy="pretrain.data=tokens"),
    Wrong("an optional input that is not there", ("pretrain.model=base_model",), fact="pretrain.model=base_model",
          remedy="pretrain.model=null"),
    Wrong("a stage's own output", ("pretrain.model=pretrain",), fact="pretrain.model=pretrain",
          remedy="pretrain.model=null"),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=[wrong.name for wrong in WRONG])
def test_what_is_said(wrong: Wrong, folder: Path) -> None:
    (folder / "mine.yaml").write_text(wrong.text())
    with pytest.raises(UserError) as error:
        composed(folder / "mine.yaml", *wrong.overrides)
    first = error.value.problems[0]
    assert wrong.fact in first.fact
    assert wrong.cause in first.cause
    assert wrong.remedy in first.remedy
    three_lines(error.value)


def test_all_problems_at_once_five_of_them_whole(folder: Path) -> None:
    wrong = ("device=x", "precision=y", "seed=z", "tokens.corpus=b", "tokens.tokenizer=c", "pretrain.optimizer=q")
    with pytest.raises(UserError) as error:
        composed(folder / "mine.yaml", *wrong)
    assert len(error.value.problems) == 6
    assert len(str(error.value).splitlines()) == 16
    assert str(error.value).endswith("\n... and 1 more of the same kind")


def test_every_setting_without_a_default(folder: Path) -> None:
    (folder / "mine.yaml").write_text(RECIPE.replace("  steps: 250\n", ""))
    with pytest.raises(UserError) as error:
        composed(folder / "mine.yaml")
    assert [problem.fact for problem in error.value.problems] == ["pretrain.steps is not set"]


@pytest.mark.filterwarnings("error")
def test_a_list_without_self_takes_the_files_own_values_last(folder: Path) -> None:
    (folder / "mine.yaml").write_text(RECIPE.replace("  - _self_\n", ""))
    own = composed(folder / "mine.yaml")
    assert own.stages == composed_stages(folder)


def composed_stages(folder: Path) -> tuple[StageNode, ...]:
    (folder / "mine.yaml").write_text(RECIPE)
    return composed(folder / "mine.yaml").stages


def test_all_values_out_of_range_at_once(folder: Path) -> None:
    wrong = ("pretrain.batch=0", "pretrain.seq_len=0", "pretrain.optimizer.lr=-1", "corpus.workers=-1")
    with pytest.raises(UserError) as error:
        composed(folder / "mine.yaml", *wrong)
    facts = [problem.fact for problem in error.value.problems]
    keys = ("corpus.workers", "pretrain.batch", "pretrain.seq_len", "pretrain.optimizer.lr")
    assert facts == [f"{key} does not fit" for key in keys]


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    file = tmp_path_factory.mktemp("recipe") / "mine.yaml"
    file.write_text(RECIPE)
    return composed(file, "precision=float32", "run.dir='~/a'", "store.dir=b", "tokenizer.sample_bytes=9")


def test_stages_in_the_recipes_order(typed: Recipe) -> None:
    assert [(stage.name, stage.kind) for stage in typed.stages] == [
        ("corpus", "corpus"),
        ("tokenizer", "tokenizer"),
        ("tokens", "tokens"),
        ("pretrain", "train"),
    ]
    assert typed.stage("tokenizer").config.sample_bytes == 9  # type: ignore[attr-defined]


def test_parts_in_their_places(typed: Recipe) -> None:
    parts = {
        part.path: (part.seam, part.slot, part.config.part, part.execution) for part in typed.stage("pretrain").parts
    }
    assert parts["pretrain.optimizer"] == ("optimizer", "optimizer", "adamw", False)
    assert parts["pretrain.parallelism"] == ("parallelism", "parallelism", "single", True)
    assert len(parts) == 6
    corpus = [(part.path, part.slot, part.config.part) for part in typed.stage("corpus").parts]
    assert corpus == [
        ("corpus.sources.files", "sources.files", "files"),
        ("corpus.sources.python_docs", "sources.python_docs", "python_docs"),
        ("corpus.filters.length", "filters.length", "length"),
        ("corpus.filters.exact_dedup", "filters.exact_dedup", "exact_dedup"),
    ]
    length = typed.stage("corpus").parts[2]
    assert length.config.min_chars == 200  # type: ignore[attr-defined]
    assert isinstance(length.config, length.installed.component.config)


def test_inputs_and_what_lies_upstream(typed: Recipe) -> None:
    assert typed.stage("tokens").inputs == {"corpus": ("corpus",), "tokenizer": ("tokenizer",)}
    unset = dict.fromkeys(("more_data", "tokenizer", "reference", "model", "frozen_vocabulary"), ())
    assert typed.stage("pretrain").inputs == {"data": ("tokens",), **unset}
    assert [stage.name for stage in typed.upstream("pretrain")] == ["tokens", "corpus", "tokenizer"]
    assert typed.upstream("corpus") == []


def test_one_layout_for_all_stages_that_name_none(folder: Path) -> None:
    """base brings the root's part; a stage's own goes first, and a problem of the common one is said once."""
    common = RECIPE.replace("  - parallelism@pretrain.parallelism: single\n", "")
    (folder / "mine.yaml").write_text(common)
    typed = composed(folder / "mine.yaml", "parallelism.threads=3")
    assert [
        (part.path, part.config.threads) for part in typed.stage("pretrain").parts if part.seam == "parallelism"
    ] == [("parallelism", 3)]
    (folder / "mine.yaml").write_text(RECIPE)
    typed = composed(folder / "mine.yaml", "parallelism.threads=3", "pretrain.parallelism.threads=2")
    assert [
        (part.path, part.config.threads) for part in typed.stage("pretrain").parts if part.seam == "parallelism"
    ] == [("pretrain.parallelism", 2)]


def test_root(typed: Recipe) -> None:
    assert (typed.seed, typed.device, typed.precision) == (0, "auto", "float32")
    assert (typed.run_dir, typed.store_dir) == (Path.home() / "a", Path("b"))
    assert (typed.trackers, typed.notes) == ((), ())


def test_resolved_is_plain_and_without_hydras_node(typed: Recipe) -> None:
    assert "hydra" not in typed.resolved
    assert typed.resolved["pretrain"]["precision"] == "auto"
    assert typed.resolved["pretrain"]["optimizer"]["part"] == "adamw"
    assert typed.resolved["corpus"]["sources"]["files"]["path"] is None


def test_a_stage_inherits_the_runs_precision(folder: Path, typed: Recipe) -> None:
    assert typed.stage("pretrain").config.precision.value == "float32"  # type: ignore[attr-defined]
    own = composed(folder / "mine.yaml", "precision=float32", "pretrain.precision=bfloat16")
    assert own.stage("pretrain").config.precision.value == "bfloat16"  # type: ignore[attr-defined]


def test_what_is_left_of_a_part_that_was_taken_out(folder: Path) -> None:
    """The recipe sets values of `length`; the command line chooses other filters: a note, no error."""
    typed = composed(folder / "mine.yaml", "filter@corpus.filters=[exact_dedup]")
    assert typed.notes == ("corpus.filters.length is not selected; the values that the recipe sets for it are dropped",)
    assert list(typed.resolved["corpus"]["filters"]) == ["exact_dedup"]
    assert [part.slot for part in typed.stage("corpus").parts if part.seam == "filter"] == ["filters.exact_dedup"]


def test_no_filters_is_a_choice(folder: Path) -> None:
    typed = composed(folder / "mine.yaml", "filter@corpus.filters=[]")
    assert [part for part in typed.stage("corpus").parts if part.seam == "filter"] == []


def test_a_part_replaced_takes_its_own_settings(folder: Path) -> None:
    typed = composed(folder / "mine.yaml", "schedule@pretrain.schedule=step_decay")
    schedule = next(part for part in typed.stage("pretrain").parts if part.slot == "schedule")
    assert (schedule.config.part, schedule.installed.row.name) == ("step_decay", "step_decay")


def test_two_stages_of_one_kind(folder: Path) -> None:
    second = RECIPE.replace(
        "  - _self_",
        "".join(
            f"  - {seam}@more.{seam}: {name}\n" if seam != "stage" else "  - stage@more: train\n"
            for seam, name in (("stage", "train"), ("architecture", "llama"), ("objective", "causal_lm"),
                               ("optimizer", "adamw"), ("schedule", "cosine"), ("parallelism", "single"))
        )
        + "  - _self_",
    ).replace("tokens, pretrain]", "tokens, pretrain, more]")  # fmt: skip
    (folder / "mine.yaml").write_text(second + "more: {steps: 10, model: pretrain}\n")
    typed = composed(folder / "mine.yaml")
    given = {role: names for role, names in typed.stage("more").inputs.items() if names}
    assert given == {"data": ("tokens",), "model": ("pretrain",)}
    assert typed.stage("more").config is not typed.stage("pretrain").config
    assert [stage.name for stage in typed.upstream("more")] == ["tokens", "pretrain", "corpus", "tokenizer"]


def test_fewer_stages_than_are_configured(folder: Path) -> None:
    assert [stage.name for stage in composed(folder / "mine.yaml", "stages=[corpus]").stages] == ["corpus"]


def test_reading_changes_no_config(folder: Path) -> None:
    ref = compose.resolve("mine.yaml")
    cfg = compose.compose(ref, [])
    assert read(cfg, "mine") == read(cfg, "mine")
