"""Chats and preference pairs through the runner: encoded, trained on, scored for a reference, asked in one table."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from lmgraft.artifacts import reference, tokenizer
from lmgraft.chat import TEMPLATES
from lmgraft.loading import load
from row_recipe import LONG, SIZE, recipe, write_rows
from tiny_recipe import rows_of, run_json, statuses, write_recipe
from warm_cli import Done, WarmCli


@pytest.fixture(scope="module")
def ran(cli: WarmCli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("rows")
    write_recipe(folder, recipe())
    write_rows(folder)
    return folder, cli(["run", "tiny.yaml", "store.dir=store", "run.dir=run"], folder).check()


def again(cli: WarmCli, ran: tuple[Path, Done], name: str, *overrides: str) -> Done:
    return cli(["run", "tiny.yaml", "store.dir=store", f"run.dir={name}", *overrides], ran[0])


def stage_rows(ran: tuple[Path, Done], stage: str) -> list[dict[str, Any]]:
    return [row for row in rows_of(ran[0] / "run") if row["stage"] == stage]


def test_every_stage_runs(ran: tuple[Path, Done]) -> None:
    assert set(statuses(ran[0] / "run").values()) == {"ran"}
    assert list(statuses(ran[0] / "run"))[-2:] == ["dpo", "evaluate"]


@pytest.mark.parametrize(("stage", "names"), [("sft", {"val_accuracy"}), ("dpo", {"val_accuracy", "val_margin"})])
def test_held_out_rows_are_judged_by_the_objective(ran: tuple[Path, Done], stage: str, names: set[str]) -> None:
    held_out = [row for row in stage_rows(ran, stage) if "val_loss" in row]
    assert [row["step"] for row in held_out] == [0, 3]
    assert names <= held_out[0].keys()


def test_rows_that_are_too_long_are_counted(ran: tuple[Path, Done]) -> None:
    for stage in ("sft", "dpo"):
        counts = {row["split"]: row for row in stage_rows(ran, stage) if "split" in row}
        assert sum(row["overlong"] for row in counts.values()) == LONG
        assert sum(row["rows"] for row in counts.values()) == SIZE - LONG
    assert "longer than seq_len=96" in ran[1].out + ran[1].err


def test_dpo_starts_at_ln_2_since_the_reference_is_its_own_model(ran: tuple[Path, Done]) -> None:
    losses = [row["loss"] for row in stage_rows(ran, "dpo") if "loss" in row]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[-1] < losses[0]
    first = next(row for row in stage_rows(ran, "dpo") if "val_loss" in row)
    assert first["val_loss"] == pytest.approx(math.log(2), abs=1e-6)
    # Accuracy is no 0.5 here: batches of other widths differ in the last digits, and these break ties.
    assert first["val_margin"] == pytest.approx(0, abs=1e-5)


def test_the_reference_holds_what_the_model_says_of_each_answer(ran: tuple[Path, Done]) -> None:
    stages = ran[0] / "run" / "stages"
    assert not list(reference.verify(stages / "reference"))
    found = {(row.document, row.role): row for row in reference.rows(stages / "reference", "train")}
    from lmgraft import chat
    from lmgraft.artifacts import corpus

    saved, handle = tokenizer.load(stages / "sft"), load(stages / "sft", device="cpu", precision="float32")
    scored = 0
    for document in corpus.documents(stages / "pairs", "train"):
        asked = [{"role": "user", "content": document.prompt}]
        for role, answer in enumerate((document.chosen, document.rejected)):
            row = found.pop((document.id, role))
            if len(document.prompt or "") > 100:
                assert row.logprob is None
                continue
            before = chat.encode_prompt(asked, saved, "solar")
            whole, _ = chat.encode_chat([*asked, {"role": "assistant", "content": answer}], saved, "solar")
            (expected,) = handle.score([(before, whole[len(before) :])])
            assert row.logprob == pytest.approx(sum(expected.logprobs), abs=1e-4)
            scored += 1
    assert scored
    assert not found


def test_tuned_models_carry_the_template_and_alone_are_asked(ran: tuple[Path, Done]) -> None:
    stages = ran[0] / "run" / "stages"
    templates = {name: tokenizer.load(stages / name).chat_template for name in ("pretrain", "sft", "dpo")}
    assert templates == {"pretrain": None, "sft": TEMPLATES["solar"], "dpo": TEMPLATES["solar"]}
    asked = [
        row["stage"] for row in json.loads((stages / "evaluate/samples.json").read_text()) if row["prompt"] == "hm"
    ]
    assert asked == ["sft", "dpo"]


def test_a_template_s_own_end_of_turn_ends_what_the_model_writes(
    cli: WarmCli, ran: tuple[Path, Done], tmp_path: Path
) -> None:
    """The tokenizer's template, with marks that are special tokens: learnt by id, and told to whoever generates."""
    marked = (
        "tokenizer: {vocab_size: 300, special_tokens: ['<|im_start|>', '<|im_end|>'], chat_template: "
        "\"{% for m in messages %}<|im_start|>{{ m['role'] }} {{ m['content'] }}<|im_end|>{% endfor %}"
        '{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"}'
    )
    text = recipe().replace("tokenizer: {vocab_size: 300}", marked)
    text = text.replace("stages: [corpus, tokenizer, tokens, pretrain, chats, sft, pairs, reference, dpo, evaluate]",
                        "stages: [corpus, tokenizer, tokens, pretrain, chats, sft]")  # fmt: skip
    assert text.count("<|im_end|>") == 2
    write_recipe(tmp_path, text)
    write_rows(tmp_path)
    cli(["run", "tiny.yaml", "store.dir=store", "run.dir=run", "sft.objective.template=null"], tmp_path).check()
    model = tmp_path / "run" / "stages" / "sft"
    saved = tokenizer.load(model)
    told = json.loads((model / "generation_config.json").read_text())["eos_token_id"]
    assert told == [saved.end_id, saved.special_ids()["<|im_end|>"]]  # type: ignore[attr-defined]
    plain = json.loads((tmp_path / "run/stages/pretrain/generation_config.json").read_text())["eos_token_id"]
    assert plain == told  # it carries the template too


def test_every_model_stands_in_one_table(ran: tuple[Path, Done]) -> None:
    scores = run_json(ran[0] / "run")["scores"]
    assert [row["stage"] for row in scores if row["name"] == "bits_per_byte"] == ["pretrain", "sft", "dpo"]


def test_another_beta_scores_nothing_anew(cli: WarmCli, ran: tuple[Path, Done]) -> None:
    again(cli, ran, "beta", "dpo.objective.beta=0.3").check()
    found = statuses(ran[0] / "beta")
    assert {name for name, status in found.items() if status == "ran"} == {"dpo", "evaluate"}


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["sft.overlong=refuse"], [r"train holds rows that are longer than seq_len=96", "overlong=refuse"]),
        (["dpo.reference=null"], ["reference"]),
        (["dpo.objective.template=alpaca"], ["is encoded unlike the reference's", "template"]),
        (["dpo.data=chats"], ["reference=reference does not fit", "another corpus than chats"]),
        (["sft.data=corpus"], ["messages"]),
        (["sft.seq_len=8"], ["split train gives no example", "sft.seq_len"]),
    ],
)
def test_what_cannot_be_trained_on_is_said_in_three_lines(
    cli: WarmCli, ran: tuple[Path, Done], tmp_path: Path, overrides: list[str], says: list[str]
) -> None:
    said = again(cli, ran, str(tmp_path / "run"), *overrides).problem()
    assert all(part in said for part in says), said


def test_bad_rows_are_counted_and_the_first_ones_shown(cli: WarmCli, ran: tuple[Path, Done], tmp_path: Path) -> None:
    lines = (ran[0] / "chats.jsonl").read_text().splitlines(keepends=True)
    bad = [json.dumps({"messages": [{"role": "user", "content": f"{n}"}]}) + "\n" for n in range(9)]
    (tmp_path / "chats.jsonl").write_text("".join(lines + bad))
    override = f"chats.sources.files.path={tmp_path / 'chats.jsonl'}"
    done = again(cli, ran, str(tmp_path / "run"), override, "chats.validation_bytes=0")
    assert done.code == 2
    assert "9 rows of train are refused" in done.err
    assert done.err.count("has no answer to learn") == 4
    assert "more of the same kind" not in done.err


@pytest.fixture
def model(ran: tuple[Path, Done], tmp_path: Path) -> Path:
    return Path(shutil.copytree(ran[0] / "run/stages/dpo", tmp_path / "model"))


def test_generate_asks_a_model_that_chats(cli: WarmCli, model: Path) -> None:
    def text(*args: str) -> str:
        told = ["generate", "model", "3 ?", "--device", "cpu", "--temperature", "0", "--max-new-tokens", "5", *args]
        return cli(told, model.parent).check().out

    from lmgraft import chat
    from lmgraft.seams.parallelism import Sampling

    saved = tokenizer.load(model)
    for said, system in ((text(), None), (text("--chat", "--system", "Be brief."), "Be brief.")):
        talk = [{"role": "system", "content": system}] if system else []
        ids = chat.encode_prompt([*talk, {"role": "user", "content": "3 ?"}], saved, "solar")
        sampling = Sampling(max_new_tokens=5, temperature=0, stop_ids=(saved.end_id,))
        new = list(load(model, device="cpu", precision="float32").generate(ids, sampling))
        assert said == saved.decode([token for token in new if token != saved.end_id]) + "\n"
    assert text("--no-chat").startswith("3 ?")


@pytest.mark.parametrize(
    ("place", "args", "says"),
    [
        ("run", ["3 " * 100], "the prompt is too long"),
        ("run/stages/pretrain", ["3", "--chat"], "has no chat template"),
        ("run/stages/pretrain", ["3", "--system", "x"], "--system has nowhere to stand"),
        ("run", ["3", "--no-chat", "--system", "x"], "--system has nowhere to stand"),
    ],
)
def test_generate_refuses(cli: WarmCli, ran: tuple[Path, Done], place: str, args: list[str], says: str) -> None:
    assert says in cli(["generate", place, *args, "--device", "cpu"], ran[0]).problem()
