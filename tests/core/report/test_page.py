"""The page: complete for a finished run, there for a failed one, and harmless whatever the texts say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from html_page import Page
from lmgraft.artifacts.scores import SampleRow, ScoreRow, write
from lmgraft.errors import UserError
from lmgraft.report import render

ATTACK = '<script>alert("x")</script><img src=https://example.org/a.png onerror=1>'


def score(name: str, value: float, unit: str = "bits/byte", **more: Any) -> ScoreRow:
    row: dict[str, Any] = {"reference": False, "higher_is_better": False, "detail": {"documents": 12}} | more
    return ScoreRow(
        **{"stage": "pretrain", "evaluator": "perplexity", "name": name, "value": value, "unit": unit} | row
    )


def sample(text: str, **more: Any) -> SampleRow:
    row: dict[str, Any] = {"stage": "pretrain", "prompt": "The ", "text": text, "finished": False, "longest_copy": 31}
    return SampleRow(**row | more)


FUNNEL = {
    "documents": {"train": 900, "validation": 40},
    "bytes": {"train": 1_000_000, "validation": 50_000},
    "sources": {"web": {"documents": 940, "bytes": 1_050_000, "read": {"documents": 1000, "bytes": 1_200_000}}},
    "filters": [
        {
            "name": "length",
            "seen": 1000,
            "kept": 940,
            "rewritten": 3,
            "dropped": {"too_short": 59, "too_long": 1},
            "sample": [{"id": "web/7", "reason": "too_short", "text": ATTACK}],
        }
    ],
}

RUN = {
    "recipe_name": "quickstart",
    "status": "done",
    "command": "lmgraft run quickstart pretrain.optimizer.lr=3e-4",
    "started": "2025-11-20T12:01:07+00:00",
    "seconds": 171.2,
    "seed": 5,
    "device": "cpu",
    "stages": {
        "corpus": {"status": "reused", "kind": "corpus", "key": "ab" * 32, "digest": "cd" * 32, "seconds": 0.1},
        "pretrain": {"status": "ran", "kind": "train", "key": "ef" * 32, "digest": "01" * 32, "seconds": 150.0},
        "evaluate": {"status": "ran", "kind": "evaluate", "key": "23" * 32, "digest": "45" * 32, "seconds": 9.0},
    },
    "components": [
        {"seam": "parallelism", "name": "single", "distribution": "lmgraft", "version": "0.1.0", "stage": stage,
         "source": {"kind": "editable", "commit": "5ba2937aabbccdd"}}
        for stage in ("pretrain", "evaluate")
    ],
    "scores": [],
    "environment": {"python": "3.11.2", "threads": None, "versions": {"torch": "2.13"}},
    "recipe": {"pretrain": {"optimizer": {"lr": 0.0003}}, "note": ATTACK},
}  # fmt: skip


def metrics(steps: int = 60) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"step": 0, "val_loss": 6.0, "val_bits_per_byte": 3.0}]
    for step in range(1, steps + 1):
        rows.append({"step": step, "loss": 6.0 - step / 20, "tokens": step * 64, "lr": 1e-3, "grad_norm": 1.0})
        rows[-1]["tokens_per_second"] = 1000.0
    rows.append({"step": steps, "val_loss": 3.2, "val_bits_per_byte": 1.6})
    return [{"stage": "pretrain", **row} for row in rows]


def run_dir(folder: Path, run: dict[str, Any] | None = RUN, rows: list[dict[str, Any]] | None = None) -> Path:
    if run is not None:
        (folder / "run.json").write_text(json.dumps(run))
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in (metrics() if rows is None else rows))
    )
    return folder


def artifacts(folder: Path) -> None:
    corpus, evaluate = folder / "stages/corpus", folder / "stages/evaluate"
    corpus.mkdir(parents=True)
    evaluate.mkdir()
    (corpus / "funnel.json").write_text(json.dumps(FUNNEL))
    scores = [score("bits_per_byte", 1.913), score("gzip_bits_per_byte", 2.71, reference=True)]
    write(evaluate, scores, [sample(f"return value {ATTACK}")])


@pytest.fixture
def finished(tmp_path: Path) -> Page:
    artifacts(run_dir(tmp_path))
    assert render(tmp_path) == tmp_path / "report.html"
    return Page(tmp_path / "report.html")


def test_a_finished_run_has_every_section(finished: Page) -> None:
    ids = finished.ids()
    assert {"scores", "training", "samples", "corpus", "stages", "parts", "recipe"} <= set(ids)
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in finished.tags if tag == "a"]
    assert {str(link)[1:] for link in links} <= set(ids)
    for said in ("lmgraft run quickstart pretrain.optimizer.lr=3e-4", "2 min 51 s", "2025-11-20 12:01 UTC", "1.913",
                 "31 of", "too_short", "read from web", "abababababab", "pretrain, evaluate", "editable 5ba2937aabbc",
                 "lr: 0.0003", "2.13"):  # fmt: skip
        assert said in finished.text, said


def test_drawings_and_tables_can_be_read_aloud(finished: Page) -> None:
    # Loss, bits per byte, learning rate, gradient norm, speed; the scores' bars, and the funnel with six bars.
    assert finished.count("svg") == 7
    assert finished.count("title") == 1 + 7 + 6
    assert finished.count("desc") == 7
    assert finished.count("table") == finished.count("caption")
    assert ("html", {"lang": "en"}) in finished.tags


def test_texts_of_strangers_stay_texts(finished: Page) -> None:
    assert finished.count("script") == 0
    assert finished.count("img") == 0
    assert finished.text.count(ATTACK) == 3  # a sample, a dropped document, a value of the recipe


def test_the_page_needs_no_network_and_no_script(finished: Page) -> None:
    loading = {"src", "srcset", "data", "action", "poster", "xlink:href"}
    assert not [attributes for _, attributes in finished.tags if loading & attributes.keys()]
    assert finished.count("link") == 0
    assert not [name for _, attributes in finished.tags for name in attributes if name.startswith("on")]
    assert "url(" not in finished.source
    assert "@import" not in finished.source
    assert "default-src 'none'" in finished.source
    assert "prefers-color-scheme: dark" in finished.source


def test_compressors_are_drawn_into_the_curve_of_their_unit(finished: Page) -> None:
    assert "gzip -9 2.71" in finished.text


def test_a_failed_run_has_a_page(tmp_path: Path) -> None:
    stages = {"corpus": RUN["stages"]["corpus"], "pretrain": {"status": "failed", "kind": "train", "key": None}}  # type: ignore[index]
    run_dir(tmp_path, {**RUN, "status": "failed", "stages": stages, "error": "out of <memory>"}, metrics(2))
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"stage": "pretrain", "step": 3, "lo')
    page = Page(render(tmp_path))
    assert "out of <memory>" in page.text
    assert "scores" not in page.ids()
    assert "training" in page.ids()


def test_a_run_that_has_just_begun_has_a_page(tmp_path: Path) -> None:
    run_dir(tmp_path, {"recipe_name": "quickstart", "status": "running", "stages": {}}, [])
    page = Page(render(tmp_path))
    assert "running" in page.text
    assert "training" not in page.ids()


def test_metrics_without_a_manifest_have_a_page(tmp_path: Path) -> None:
    page = Page(render(run_dir(tmp_path, None)))
    assert page.count("svg") == 5
    assert tmp_path.name in page.text


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    artifacts(run_dir(tmp_path))
    (tmp_path / "run.json").write_text("{")
    (tmp_path / "stages/evaluate/scores.json").write_text("[1]")
    page = Page(render(tmp_path))
    assert "run.json cannot be read" in page.text
    assert "scores.json cannot be read" in page.text


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run directory"):
        render(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_several_models_stand_side_by_side_and_the_best_is_marked(tmp_path: Path) -> None:
    run_dir(tmp_path)
    (tmp_path / "stages/evaluate").mkdir(parents=True)
    rows = [
        score("bits_per_byte", 1.9),
        score("bits_per_byte", 1.7, stage="<b>dpo"),
        score("accuracy", 0.25, unit="", higher_is_better=True),
        score("accuracy", 0.5, unit="", higher_is_better=True, stage="<b>dpo"),
        score("gzip_bits_per_byte", 2.5, reference=True),
    ]
    write(tmp_path / "stages/evaluate", rows, [])
    page = Page(render(tmp_path))
    assert '<td class="num"><strong>1.7</strong></td>' in page.source
    assert '<td class="num"><strong>0.5</strong></td>' in page.source
    assert '<td class="num">1.9</td>' in page.source
    assert page.count("b") == 0


def test_two_evaluators_of_one_kind_are_drawn_apart(tmp_path: Path) -> None:
    run_dir(tmp_path)
    (tmp_path / "stages/evaluate").mkdir(parents=True)
    rows = [
        ScoreRow(**{**score(name, value, reference=name != "bits_per_byte"), "evaluator": evaluator})
        for evaluator, own, gzip in (("english", 1.9, 2.5), ("chinese", 2.8, 4.3))
        for name, value in (("bits_per_byte", own), ("gzip_bits_per_byte", gzip))
    ]
    write(tmp_path / "stages/evaluate", rows, [])
    source = Page(render(tmp_path)).source
    for evaluator, drawn in (("english", ["1.900", "2.500"]), ("chinese", ["2.800", "4.300"])):
        figure = source.split(f"Bits per byte</strong> by <code>{evaluator}</code>")[1].split("</figure>")[0]
        assert re.findall(r'class="value"[^>]*>([^<]*)<', figure) == drawn
        assert f'id="bpb-evaluate-{evaluator}-title"' in figure


def test_recorded_scores_stand_in_for_a_lost_artifact(tmp_path: Path) -> None:
    run_dir(tmp_path, {**RUN, "scores": [score("bits_per_byte", 1.234), {"name": "half a record"}]})
    assert "1.234" in Page(render(tmp_path)).text


def test_reused_and_skipped_rows_are_marked_and_repeated_steps_count_once(tmp_path: Path) -> None:
    rows = [{"stage": "pretrain", "step": step, "loss": 9.0, "reused": True} for step in (1, 2, 3)]
    rows += [{"stage": "pretrain", "step": 3, "loss": 4.5, "reused": True}]
    rows += [{"stage": "pretrain", "step": 4, "reused": True, "skipped": True}]
    page = Page(render(run_dir(tmp_path, RUN, rows)))
    assert "1 step had no finite gradient" in page.text
    assert "last 4.5, lowest 4.5 at step 3" in page.text
    assert "reused" in page.text


def test_artifacts_named_in_a_file_are_found(tmp_path: Path) -> None:
    """Where the system allows no links, ``stages/NAME.path`` holds the place."""
    run, store = tmp_path / "run", tmp_path / "store"
    (run / "stages").mkdir(parents=True)
    store.mkdir()
    run_dir(run)
    write(store, [score("bits_per_byte", 1.2345)], [])
    (run / "stages/evaluate.path").write_text(str(store))
    assert "1.234" in Page(render(run)).text


def test_importing_the_package_loads_neither_template_engine_nor_torch() -> None:
    code = "import sys, lmgraft.report; print([m for m in ('jinja2', 'rich', 'torch', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
