"""The Python API, as a notebook uses it."""

from __future__ import annotations

from pathlib import Path

import lmgraft
import pytest
from lmgraft.errors import UserError
from lmgraft.seams.parallelism import Sampling
from tiny_recipe import STAGES, digests, metrics, write_recipe


@pytest.fixture(scope="module")
def run(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> lmgraft.Run:
    """The finished recipe by the API, two steps shorter: it trains in this process."""
    folder = tmp_path_factory.mktemp("api")
    places = [f"store.dir={finished / 'store'}", f"run.dir={folder / 'run'}", f"data.path={finished / 'texts'}"]
    return lmgraft.run(str(finished / "tiny.yaml"), [*places, "pretrain.steps=10"], quiet=True)


def test_a_run_has_scores_artifacts_metrics_and_a_page(run: lmgraft.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert {score["name"] for score in run.scores} >= {"perplexity", "bits_per_byte"}
    assert run.score("bits_per_byte") == next(row["value"] for row in run.scores if row["name"] == "bits_per_byte")
    assert run.score("bits_per_byte", stage="pretrain") == run.score("bits_per_byte")
    with pytest.raises(KeyError):
        run.score("accuracy")
    assert list(run.artifacts) == list(STAGES)
    assert (run.artifacts["pretrain"] / "config.json").is_file()
    assert (run.artifacts["corpus"] / "funnel.json").is_file()
    assert [row["step"] for row in run.metrics("pretrain") if "loss" in row] == list(range(1, 11))
    assert len(list(run.metrics("pretrain"))) == 12
    assert [row["encoder"] in ("gigatoken", "tokenizers") for row in run.metrics("tokens")] == [True]
    assert list(run.metrics("corpus")) == []
    assert run.report.is_file()
    assert run.data["status"] == "done"
    assert capsys.readouterr().out == ""


def test_it_is_the_command_line_s_run(run: lmgraft.Run, finished: Path) -> None:
    again = lmgraft.open_run(finished / "run")
    assert {name: path.parent.name for name, path in again.artifacts.items()} == digests(finished / "run")
    assert [row.get("step") for row in again.metrics()] == [row.get("step") for row in metrics(finished / "run")]
    same = {name for name in STAGES if again.artifacts[name] == run.artifacts[name]}
    assert same == {"corpus", "tokenizer", "tokens"}
    assert lmgraft.open_run(run.dir).scores == run.scores


def test_an_api_run_makes_the_bytes_of_the_command_line(finished: Path, tmp_path: Path) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        overrides = [
            f"data.path={finished / 'texts'}",
            f"store.dir={tmp_path / 'store'}",
            f"run.dir={tmp_path / 'run'}",
        ]
        run = lmgraft.run(str(finished / "tiny.yaml"), overrides, quiet=True)
    finally:
        torch.set_num_threads(threads)
    assert digests(run.dir) == digests(finished / "run")


def test_a_run_without_a_place_is_put_below_runs(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    run = lmgraft.run("tiny.yaml", ["stages=[corpus]", f"store.dir={finished / 'store'}"], quiet=True)
    assert run.dir.parts[:2] == ("runs", "tiny")
    assert list(run.artifacts) == ["corpus"]


def test_bad_input_is_an_error_with_its_problems(finished: Path) -> None:
    with pytest.raises(UserError) as caught:
        lmgraft.run(str(finished / "tiny.yaml"), ["data.path=null", "pretrain.steps=0", "pretrain.batch=0"])
    assert len(caught.value.problems) == 2
    assert "steps is 0" in caught.value.problems[0].cause
    for wrong in (lmgraft.open_run, lmgraft.load, lmgraft.load_tokenizer):
        with pytest.raises(UserError, match="texts"):
            wrong(finished / "texts")


def test_a_loaded_model_scores_and_writes(run: lmgraft.Run) -> None:
    model, tokenizer = lmgraft.load(run.dir, device="cpu"), lmgraft.load_tokenizer(run.dir)
    assert model.context == 32
    ids = tokenizer.encode_batch(["abc def"])[0]
    scored = model.score([([tokenizer.end_id], ids)])[0]
    assert len(scored.logprobs) == len(ids)
    assert all(value < 0 for value in scored.logprobs)
    greedy = Sampling(max_new_tokens=5, temperature=0.0)
    written = list(model.generate(ids, greedy))
    assert len(written) == 5
    assert written == list(model.generate(ids, greedy))
    assert all(model.score([(ids, written)])[0].greedy)
    assert isinstance(tokenizer.decode(written), str)


def test_importing_lmgraft_imports_nothing_else() -> None:
    import subprocess
    import sys

    code = (
        "import lmgraft, sys; assert not {'torch', 'hydra', 'numpy'} & set(sys.modules); lmgraft.__version__; lmgraft.x"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "module 'lmgraft' has no attribute 'x'" in done.stderr
    assert "AssertionError" not in done.stderr
