"""Rows encoded once by a tokens stage, through the runner: models trained on them are those trained on their corpus."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from lmgraft.artifacts import corpus, examples, rules, tokenizer
from lmgraft.registry import build, registry
from row_recipe import LONG, SIZE, encoded_recipe, write_rows
from tiny_recipe import RECIPE, digests, metrics, rows_of, statuses, write_recipe
from warm_cli import Done, WarmCli

ROWS = {"chat_rows": ("chats", "sft"), "pair_rows": ("pairs", "dpo")}


@pytest.fixture(scope="module")
def ran(cli: WarmCli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("rows")
    write_recipe(folder, encoded_recipe())
    write_rows(folder)
    return folder, cli(["run", "tiny.yaml", "store.dir=store", "run.dir=run"], folder).check()


def again(cli: WarmCli, ran: tuple[Path, Done], name: str, *overrides: str) -> Done:
    return cli(["run", "tiny.yaml", "store.dir=store", f"run.dir={name}", *overrides], ran[0])


def told(run: Path, stage: str) -> list[dict[str, Any]]:
    return [row for row in metrics(run) if row["stage"] == stage]


@pytest.mark.parametrize(("stage", "source"), ROWS.items())
def test_the_artifact_holds_what_the_objective_makes_of_each_document(
    ran: tuple[Path, Done], stage: str, source: tuple[str, str]
) -> None:
    stages = ran[0] / "run/stages"
    folder, saved = stages / stage, tokenizer.load(stages / stage)
    component = registry().get("objective", source[1]).component
    objective: Any = build(component, component.config(part=source[1]))
    assert rules.broken("tokens", folder) == []
    total = 0
    for split, count in examples.info(folder).splits.items():
        expected = [
            (document.id, number, example.role, example.tokens, example.weights)
            for number, document in enumerate(corpus.documents(stages / source[0], split))
            for example in objective.encode(document, saved)
        ]
        found = [
            (row.document, row.unit, row.role, row.tokens.tolist(), row.weights.tolist())
            for row in examples.rows(folder, split)
        ]
        assert found == expected
        assert sum(count.lengths.values()) == count.sequences == len(found)
        assert count.learnt == sum(sum(weight > 0 for weight in row[4][1:]) for row in found)
        total += count.units
    assert total == SIZE, "rows of all lengths are there"


def test_datasets_reads_it(ran: tuple[Path, Done], tmp_path: Path) -> None:
    folder = ran[0] / "run/stages/pair_rows"
    read = datasets.load_dataset("parquet", data_dir=str(folder), cache_dir=str(tmp_path))
    assert set(read) == {"train", "validation"}
    assert read["train"].column_names == examples.SCHEMA.names
    for split, others in read.items():
        for row, other in zip(examples.rows(folder, split), others, strict=True):
            assert row.tokens.tolist() == other["tokens"]
            assert row.weights.tolist() == np.float32(other["weights"]).tolist()


def test_a_model_trained_on_it_is_the_one_trained_on_the_corpus(cli: WarmCli, ran: tuple[Path, Done]) -> None:
    corpora = ["sft.data=chats", "reference.data=pairs", "dpo.data=pairs"]
    again(cli, ran, "corpora", *corpora).check()
    first, second = digests(ran[0] / "run"), digests(ran[0] / "corpora")
    assert [first[stage] for stage in ("sft", "reference", "dpo")] == [
        second[stage] for stage in ("sft", "reference", "dpo")
    ]
    for stage in ("sft", "dpo"):
        assert told(ran[0] / "run", stage) == told(ran[0] / "corpora", stage)
    counts = {row["split"]: row for row in told(ran[0] / "run", "sft") if "split" in row}
    assert sum(row["overlong"] for row in counts.values()) == LONG


@pytest.mark.parametrize("overrides", [["reference.data=pairs"], ["dpo.data=pairs"]])
def test_a_reference_of_the_corpus_fits_its_rows_and_the_other_way_round(
    cli: WarmCli, ran: tuple[Path, Done], tmp_path: Path, overrides: list[str]
) -> None:
    again(cli, ran, str(tmp_path / "run"), *overrides).check()
    assert digests(tmp_path / "run")["dpo"] == digests(ran[0] / "run")["dpo"]


def test_another_beta_encodes_and_scores_nothing_anew(cli: WarmCli, ran: tuple[Path, Done]) -> None:
    again(cli, ran, "beta", "dpo.objective.beta=0.3").check()
    found = statuses(ran[0] / "beta")
    assert {name for name, status in found.items() if status == "ran"} == {"dpo", "evaluate"}


def test_packed_rows_from_either_source_train_alike_and_validate_as_unpacked_ones(
    cli: WarmCli, ran: tuple[Path, Done]
) -> None:
    packed = ["sft.packing=best_fit", "stages=[corpus,tokenizer,tokens,pretrain,chats,chat_rows,sft]"]
    again(cli, ran, "packed", *packed).check()
    again(cli, ran, "packed_corpus", *packed, "sft.data=chats").check()
    assert digests(ran[0] / "packed")["sft"] == digests(ran[0] / "packed_corpus")["sft"]
    rows = told(ran[0] / "packed", "sft")
    assert rows == told(ran[0] / "packed_corpus", "sft")
    (train,) = [row for row in rows if row.get("split") == "train"]
    assert 0 < train["filled"] <= 1
    assert train["sequences"] < train["rows"]
    unpacked = told(ran[0] / "run", "sft")
    first, second = (next(row for row in found if "val_loss" in row) for found in (rows, unpacked))
    for name in ("val_loss", "val_accuracy"):
        assert first[name] == pytest.approx(second[name], rel=1e-5)
    steps = [row for row in rows_of(ran[0] / "packed") if row["stage"] == "sft" and "loss" in row]
    assert steps[-1]["tokens"] > [row for row in unpacked if "loss" in row][-1]["tokens"]


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")
def test_killed_while_rows_are_encoded_laid_out_or_trained_on_it_ends_as_if_left_alone(
    cli: WarmCli, ran: tuple[Path, Done], tmp_path: Path
) -> None:
    args = ["stages=[corpus,tokenizer,tokens,pretrain,chats,chat_rows,sft]", "sft.packing=best_fit", "sft.steps=6"]
    args += ["chat_rows.objective.template=chatml", "sft.objective.template=chatml", "sft.checkpoint_every=1"]

    def attempt(name: str, **aim: Any) -> Done:
        places = [f"store.dir={tmp_path / name / 'store'}", f"run.dir={tmp_path / name / 'run'}"]
        return cli(["run", "tiny.yaml", *places, *args], ran[0], **({"aim": aim} if aim else {}))

    for name in ("whole", "killed"):
        shutil.copytree(ran[0] / "store", tmp_path / name / "store", symlinks=True)
    attempt("whole", calls=str(tmp_path / "calls")).check()
    calls = json.loads((tmp_path / "calls").read_text())
    rng, kills = random.Random(1), 0
    for stage, times in (("chat_rows", 4), ("sft", 4)):
        for _ in range(times):
            kills += attempt("killed", stage=stage, call=rng.randint(1, calls[stage])).code == -9
    attempt("killed").check()
    assert kills >= 4
    assert digests(tmp_path / "killed/run") == digests(tmp_path / "whole/run")
    assert told(tmp_path / "killed/run", "sft") == told(tmp_path / "whole/run", "sft")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["sft.objective.template=alpaca"], ["sft.objective.template=alpaca is not how", "chat_rows.objective"]),
        (["objective@chat_rows.objective=dpo"], ["chat_rows.objective", "columns:chosen"]),
        (["objective@sft.objective=causal_lm"], ["sft.data=chat_rows does not fit", "causal_lm"]),
        (["dpo.reference=null"], ["stage dpo has no reference", "kind score with data: pair_rows"]),
        (["dpo.packing=best_fit"], ["dpo.packing=best_fit does not go with dpo.objective", "dpo.packing=none"]),
        (["pretrain.packing=best_fit"], ["pretrain.packing=best_fit has nothing to pack"]),
        (["reference.data=tokens"], ["reference.data=tokens holds no rows"]),
        (["sft.overlong=refuse"], ["train holds rows that are longer than seq_len=96", "overlong=refuse"]),
        (["sft.seq_len=8"], ["split train gives no example", "sft.seq_len"]),
        (["chat_rows.corpus=corpus"], ["columns:messages"]),
        (["sft.tokenizer=tokenizer"], ["sft.tokenizer=tokenizer would not be used", "sft.tokenizer=null"]),
        (["chat_rows.encoder=gigatoken"], ["chat_rows.encoder does not fit", "rows are encoded in pieces"]),
    ],
)
def test_what_cannot_be_trained_on_is_said_in_three_lines(
    cli: WarmCli, ran: tuple[Path, Done], tmp_path: Path, overrides: list[str], says: list[str]
) -> None:
    said = again(cli, ran, str(tmp_path / "run"), *overrides).problem()
    assert all(part in said for part in says), said


def test_rows_of_another_tokenizer_are_refused(cli: WarmCli, ran: tuple[Path, Done], tmp_path: Path) -> None:
    more = ["+stage@small=tokenizer", "+tokenizer@small.tokenizer=byte_bpe", "small.tokenizer.vocab_size=290"]
    more += ["pair_rows.tokenizer=small"]
    stages = "stages=[corpus,tokenizer,small,tokens,pretrain,chats,chat_rows,sft,pairs,pair_rows,reference,dpo]"
    said = again(cli, ran, str(tmp_path / "run"), *more, stages).problem()
    assert "stage reference: model=sft and data=pair_rows have different vocabularies" in said


def test_texts_are_packed_whole_where_an_objective_encodes_them(cli: WarmCli, tmp_path: Path) -> None:
    text = RECIPE.replace("  - _self_\n", "  - objective@tokens.objective: causal_lm\n  - _self_\n")
    text = text.replace("document_bytes: 1024", "document_bytes: 300")
    text = text.replace("  seq_len: 32\n", "  seq_len: 256\n  packing: best_fit\n").replace(
        "context: 32}", "context: 256}"
    )
    write_recipe(tmp_path, text)
    cli(["run", "tiny.yaml", "store.dir=store", "run.dir=run"], tmp_path).check()
    stages = tmp_path / "run/stages"
    saved = tokenizer.load(stages / "tokens")
    for row, document in zip(
        examples.rows(stages / "tokens", "train"), corpus.documents(stages / "corpus", "train"), strict=True
    ):
        assert saved.decode(row.tokens.tolist(), skip_special=True) == document.text
        assert row.tokens[0] == row.tokens[-1] == saved.end_id
    rows = [row for row in rows_of(tmp_path / "run") if row["stage"] == "pretrain"]
    (train,) = [row for row in rows if row.get("split") == "train"]
    assert train["sequences"] < train["rows"]
    assert train["filled"] > 0.8
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]
