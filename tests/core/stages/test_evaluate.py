"""The evaluate stage with the first-party parts: a real model, tokenizer and corpus, all small."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lmgraft.artifacts import Artifact, checkpoint, tokenizer
from lmgraft.artifacts.corpus import CorpusWriter, documents, shard_name, to_batch
from lmgraft.artifacts.scores import read, read_samples
from lmgraft.errors import Stopped, UserError
from lmgraft.loading import load
from lmgraft.registry import build, registry
from lmgraft.seams.data_source import Document
from lmgraft.seams.parallelism import Engine, EnginePlan, Sampling
from lmgraft.seams.stage import Stage
from lmgraft.stages.asking import Questions, _Corpora
from lmgraft.stages.evaluate import Evaluate
from lmgraft.stages.plugin import EvaluateStage, Precision, Sample
from lmgraft.training.events import STOP, NoEvents

TEXTS = [f"{n} and {n} make {n + n}, and {n} times {n} makes {n * n}." for n in range(300)]
SAMPLE = Sample(prompts=["7 and ", ""], max_new_tokens=12, temperature=1.0)


def part(seam: str, name: str, **settings: Any) -> Any:
    return build(*chosen(seam, name, **settings))


def chosen(seam: str, name: str, **settings: Any) -> tuple[Any, Any]:
    component = registry().get(seam, name).component
    return component, component.config(part=name, **settings)


class InAnotherProcess:
    """``single``, with the work sent as to another process."""

    def launch(self, work: Callable[[Callable[[EnginePlan], Engine]], None]) -> None:
        part("parallelism", "single", threads=1).launch(pickle.loads(pickle.dumps(work)))


class Context:
    """A stage's context without a run around it; counts launches."""

    name = "evaluate"
    seed = 3
    device = "cpu"

    def __init__(self, folder: Path, inputs: Mapping[str, list[Artifact]], evaluators: Mapping[str, Any]) -> None:
        self.work, self.out = folder / "work", folder / "out"
        shutil.rmtree(self.out, ignore_errors=True)
        self.work.mkdir(parents=True, exist_ok=True)
        self.out.mkdir()
        self.inputs = inputs
        self.launches = 0
        self.totals: list[float | None] = []
        self.stop = False
        self._evaluators = evaluators

    def component(self, path: str) -> tuple[Any, Any]:
        slot, _, name = path.partition(".")
        assert slot == "evaluators"
        return registry().get("evaluator", "perplexity").component, self._evaluators[name]

    def part(self, path: str) -> Any:
        assert path == "parallelism"
        self.launches += 1
        return InAnotherProcess()

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Context]:
        self.totals.append(total)
        yield self

    def advance(self, amount: float = 1, **shown: Any) -> None: ...

    def emit(self, row: Mapping[str, Any]) -> None: ...

    def note(self, text: str) -> None: ...

    def checkpointed(self, step: int, path: Path) -> None: ...

    def alive(self) -> None:
        if self.stop:
            raise Stopped("a signal")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("corpus")
    for split, texts in (("train", TEXTS[:280]), ("validation", TEXTS[280:])):
        with CorpusWriter(folder / shard_name(split, 0, 1), {"text"}) as writer:
            writer.write(to_batch([Document(id=f"a/{split}{n}", text=text) for n, text in enumerate(texts)], "a"))
    return Artifact("corpus", folder, "0" * 64, "corpus")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("model")
    trained = part("tokenizer", "byte_bpe", vocab_size=300)
    trained.train(TEXTS)
    trained.save(folder)
    saved = tokenizer.load(folder)
    sizes = {"layers": 1, "hidden": 32, "heads": 2, "kv_heads": 1, "mlp": 48, "context": 32}
    plan = EnginePlan(part("architecture", "llama", **sizes), saved.vocab_size, "cpu", "float32", 1)
    plan.initializer = part("initializer", "normal")
    part("parallelism", "single", threads=1).launch(lambda make: make(plan).export(folder))
    checkpoint.set_token_ids(folder, end_id=saved.end_id, pad_id=saved.pad_id)
    return Artifact("model", folder, "1" * 64, "pretrain")


Run = Callable[..., tuple[Evaluate, Context]]


@pytest.fixture
def run(tmp_path: Path, corpus: Artifact, model: Artifact) -> Run:
    """Runs the stage in ``tmp_path``: twice in one test is a restart."""

    def once(
        folder: str = "stage", stop: bool = False, inputs: Mapping[str, list[Artifact]] | None = None, **settings: Any
    ) -> tuple[Evaluate, Context]:
        evaluators = {name: chosen("evaluator", "perplexity")[1] for name in settings.pop("names", ["perplexity"])}
        config = EvaluateStage(
            evaluators=evaluators, precision=Precision.float32, **{"sample": SAMPLE, "limit": 5} | settings
        )
        stage = Evaluate(config)
        context = Context(tmp_path / folder, inputs or {"models": [model], "corpus": [corpus]}, evaluators)
        context.stop = stop
        stage.run(context)  # type: ignore[arg-type]
        return stage, context

    return once


def test_scores_are_those_that_the_evaluator_gives(run: Run, corpus: Artifact, model: Artifact) -> None:
    stage, context = run()
    assert isinstance(stage, Stage)

    class Data:
        def documents(self, split: str) -> Iterator[Document]:
            return documents(corpus.path, split)

    handle = load(model.path, device="cpu", precision="float32")
    expected = part("evaluator", "perplexity").run(handle, tokenizer.load(model.path), data=Data(), limit=5)
    rows = read(context.out)
    assert [row["name"] for row in rows] == [score.name for score in expected]
    for row, score in zip(rows, expected, strict=True):
        assert row["value"] == pytest.approx(score.value, rel=1e-6)
        assert (row["stage"], row["evaluator"]) == ("pretrain", "perplexity")
        assert (row["unit"], row["reference"], row["detail"]) == (score.unit, score.reference, score.detail)
    assert rows[0]["detail"]["documents"] == 5
    assert context.totals[0] == 5
    artifact = Artifact("scores", context.out, "2" * 64, "evaluate")
    assert dict(stage.summary(artifact)).keys() == {
        f"{name} of pretrain" for name in ("perplexity", "bits_per_byte", "bits_per_character")
    }


def test_scores_of_two_evaluators_of_one_kind_are_told_apart(run: Run) -> None:
    stage, context = run(names=["english", "chinese"])
    told = [name for name, _ in stage.summary(Artifact("scores", context.out, "2" * 64, "evaluate"))]
    assert len(set(told)) == len(told) == 6
    assert "bits_per_byte of pretrain by chinese" in told


def test_samples_follow_their_prompts_and_are_looked_up(run: Run, corpus: Artifact) -> None:
    _, context = run()
    rows = read_samples(context.out)
    assert [row["prompt"] for row in rows] == ["7 and ", ""]
    train = [document.text or "" for document in documents(corpus.path, "train")]
    for row in rows:
        assert row["text"]
        assert not row["text"].startswith("7 and ")
        longest = row["longest_copy"]
        assert longest is not None
        spans = [row["text"][i : i + longest + 1] for i in range(len(row["text"]) - longest)]
        assert not any(span in text for span in spans for text in train)
        assert any(row["text"][i : i + longest] in text for i in range(len(row["text"])) for text in train)


def test_the_same_stage_writes_the_same_bytes(run: Run) -> None:
    (_, first), (_, second) = run("a"), run("b")
    for name in ("scores.json", "samples.json"):
        assert (first.out / name).read_bytes() == (second.out / name).read_bytes()
    assert sorted(path.name for path in first.out.iterdir()) == ["samples.json", "scores.json"]


def test_a_prompt_near_the_context_gets_the_room_that_is_left(run: Run, model: Artifact) -> None:
    saved = tokenizer.load(model.path)
    prompt = "0123456789" * 3
    ids = [saved.end_id, *saved.encode_batch([prompt])[0]]
    assert 15 < len(ids) < 32
    sampling = Sampling(max_new_tokens=500, temperature=0, stop_ids=(saved.end_id,))
    expected = list(load(model.path, device="cpu", precision="float32").generate(ids, sampling))
    assert len(expected) == 32 + 1 - len(ids)

    _, context = run(sample=Sample(prompts=[prompt], max_new_tokens=500, temperature=0))
    (row,) = read_samples(context.out)
    assert row["text"] == saved.decode(ids + expected, skip_special=True).removeprefix(prompt)
    assert not row["finished"]


def test_only_open_questions_are_asked_again(run: Run) -> None:
    _, first = run(names=["one", "two"])
    folder = first.work / "pretrain"
    known = json.loads((folder / "one.scores.json").read_text())
    known[0]["value"] = 12345.0
    (folder / "one.scores.json").write_text(json.dumps(known))
    (folder / "two.scores.json").unlink()
    before = read(first.out)
    samples = (first.out / "samples.json").read_bytes()

    _, second = run(names=["one", "two"])
    rows = read(second.out)
    assert rows[0]["value"] == 12345.0
    assert rows[1:] == before[1:]
    assert [row["evaluator"] for row in rows] == ["one"] * 5 + ["two"] * 5
    assert (second.out / "samples.json").read_bytes() == samples
    assert second.launches == 1

    _, third = run(names=["one", "two"])
    assert third.launches == 0


def test_a_signal_stops_it_and_it_goes_on(run: Run, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run("stopped", stop=True, names=["one", "two"])
    assert list((tmp_path / "stopped/out").iterdir()) == []
    (_, resumed), (_, unbroken) = run("stopped", names=["one", "two"]), run("unbroken", names=["one", "two"])
    assert (resumed.out / "scores.json").read_bytes() == (unbroken.out / "scores.json").read_bytes()


@pytest.mark.parametrize("evaluators", [["perplexity"], []])
def test_a_rank_that_is_told_to_stop_asks_nothing_more(
    tmp_path: Path, corpus: Artifact, model: Artifact, evaluators: list[str]
) -> None:
    (tmp_path / STOP).write_text("save")
    questions = Questions(
        stage="pretrain",
        model=model.path,
        corpora=[corpus.path],
        evaluators={name: chosen("evaluator", name) for name in evaluators},
        sample=SAMPLE,
        limit=5,
        device="cpu",
        precision="float32",
        seed=3,
        out=tmp_path,
    )
    with pytest.raises(Stopped):
        part("parallelism", "single", threads=1).launch(questions)
    assert not list(tmp_path.glob("*.json"))


def test_several_models_are_scored_in_order(run: Run, corpus: Artifact, model: Artifact) -> None:
    other = Artifact("model", model.path, model.digest, "continued")
    inputs = {"models": [other, model], "corpus": [corpus]}
    stage, context = run(inputs=inputs)
    assert list(dict.fromkeys(row["stage"] for row in read(context.out))) == ["continued", "pretrain"]
    assert [row["stage"] for row in read_samples(context.out)] == ["continued"] * 2 + ["pretrain"] * 2
    identity = stage.identity(context)  # type: ignore[arg-type]
    assert identity == {"precision": "float32", "seed": 3, "models": ["continued", "pretrain"]}


def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_asked(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prompt 2 is \d+ tokens long(.|\n)*context of pretrain's model is 32"):
        run(sample=Sample(prompts=["short", TEXTS[0] * 5]))
    assert not (tmp_path / "stage" / "work" / "pretrain").exists()


def test_an_evaluator_without_a_corpus_says_what_to_set(run: Run, model: Artifact) -> None:
    with pytest.raises(UserError, match="evaluate: corpus is null, and perplexity reads documents"):
        run(inputs={"models": [model]})


def test_deciding_about_a_stage_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lmgraft.stages.evaluate import Evaluate; from lmgraft.stages.plugin import EvaluateStage;"
        "Evaluate(EvaluateStage()); print([m for m in ('torch', 'numpy', 'tokenizers', 'pyarrow') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def pairs_corpus(folder: Path) -> Artifact:
    folder.mkdir()
    for split in ("train", "validation"):
        rows = [Document(id=f"p/{split}{n}", prompt=f"{n}?", chosen="yes", rejected="no") for n in range(3)]
        with CorpusWriter(folder / shard_name(split, 0, 1), {"prompt", "chosen", "rejected"}) as writer:
            writer.write(to_batch(rows, "p"))
    return Artifact("corpus", folder, "3" * 64, "pairs")


def tuned(folder: Path, model: Artifact, template: str) -> Artifact:
    shutil.copytree(model.path, folder)
    tokenizer.set_chat_template(folder, template)
    return Artifact("model", folder, "4" * 64, "sft")


def test_each_evaluator_reads_the_corpora_that_have_its_columns(
    run: Run, tmp_path: Path, corpus: Artifact, model: Artifact
) -> None:
    pairs = pairs_corpus(tmp_path / "pairs")
    _, alone = run("alone")
    _, both = run("both", inputs={"models": [model], "corpus": [pairs, corpus]})
    assert (alone.out / "scores.json").read_bytes() == (both.out / "scores.json").read_bytes()
    assert both.totals[0] == 5
    asked = _Corpora([pairs.path, corpus.path], NoEvents(tmp_path))
    chosen_ones = list(asked.documents("validation", frozenset({"chosen", "rejected"})))
    assert [document.id for document in chosen_ones] == ["p/validation0", "p/validation1", "p/validation2"]


def test_no_corpus_with_the_columns_is_said(run: Run, tmp_path: Path, model: Artifact) -> None:
    pairs = pairs_corpus(tmp_path / "pairs")
    with pytest.raises(UserError, match=r"perplexity reads documents with text(.|\n)*no corpus that the stage names"):
        run(inputs={"models": [model], "corpus": [pairs]})


def test_questions_go_to_those_models_that_chat(run: Run, tmp_path: Path, corpus: Artifact, model: Artifact) -> None:
    wordy = tuned(tmp_path / "tuned", model, "{{ bos_token }}{{ messages[0]['content'] }}{{ '\\n> ' }}")
    sample = Sample(prompts=["7 and "], chat=["2+2"], max_new_tokens=5, temperature=0)
    _, context = run(inputs={"models": [model, wordy], "corpus": [corpus]}, sample=sample)
    rows = read_samples(context.out)
    assert [(row["stage"], row["prompt"]) for row in rows] == [
        ("pretrain", "7 and "), ("sft", "7 and "), ("sft", "2+2"),
    ]  # fmt: skip
    saved = tokenizer.load(wordy.path)
    ids = [saved.end_id, *saved.encode_batch(["2+2\n> "])[0]]
    sampling = Sampling(max_new_tokens=5, temperature=0, stop_ids=(saved.end_id,))
    expected = list(load(wordy.path, device="cpu", precision="float32").generate(ids, sampling))
    assert rows[2]["text"] == saved.decode(expected, skip_special=True)


def test_a_question_that_does_not_fit_is_refused_first(run: Run, tmp_path: Path, model: Artifact) -> None:
    solar = tuned(tmp_path / "tuned", model, "{{ messages[0]['content'] * 9 }}")
    with pytest.raises(UserError, match=r"sample.chat: question 1 is \d+ tokens long with its chat template around it"):
        run(inputs={"models": [solar]}, sample=Sample(chat=["0123456789"]))
