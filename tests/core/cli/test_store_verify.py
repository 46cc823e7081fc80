"""``lmgraft store verify`` on every kind of artifact: a damaged file, and files that are what a stage wrote wrongly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lmgraft.artifacts import reference
from lmgraft.artifacts.rules import KINDS, broken
from lmgraft.store import Store
from warm_cli import WarmCli


def score(folder: Path, rows: int = 3, told: int = 3, logprob: float = -1.5) -> None:
    """A reference artifact as the score stage writes it."""
    columns = [
        [f"d{n}" for n in range(rows)],
        [0] * rows,
        [reference.digest([n], [1.0]) for n in range(rows)],
        [logprob] * rows,
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, reference.SCHEMA, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=reference.SCHEMA), folder / "train.parquet", compression="zstd")
    reference.ReferenceInfo("f", "c", {"train": told}).write(folder)


def publish(store: Store, kind: str, write: Callable[[Path], object]) -> Path:
    with store.build(f"ab{kind.encode().hex()}") as job:
        write(job.out)
        return job.publish(kind, {"stage": kind}, 0.0).path


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    """A store with an artifact of every kind."""
    shutil.copytree(Path(f"{finished}.as_it_was") / "store", tmp_path / "store")
    publish(Store(tmp_path / "store"), "reference", score)
    return tmp_path / "store"


def artifacts(place: Path) -> dict[str, Path]:
    return {entry.record.kind: entry.record.path for entry in Store(place).ls()}


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)


def test_a_changed_byte_in_any_file_of_any_kind_is_found(place: Path) -> None:
    store, found = Store(place), artifacts(place)
    assert found.keys() == KINDS.keys()
    assert store.verify(broken=broken) == []
    for folder in found.values():
        for file in [path for path in folder.rglob("*") if path.is_file()]:
            whole = file.read_bytes()
            flip(file)
            [problem] = store.verify(broken=broken)
            assert f"{file.relative_to(folder)} has other content than was published" in problem.cause
            assert str(folder.parent) in problem.fact
            file.write_bytes(whole)
    assert store.verify(broken=broken) == []


def test_a_damaged_reference_is_told_and_repaired(cli: WarmCli, place: Path) -> None:
    verify = ["store", "verify", "--dir", place]
    assert "is whole" in cli(verify, place).check().out
    flip(artifacts(place)["reference"] / "train.parquet")
    problem = cli(verify, place).problem()
    assert len(problem.splitlines()) == 3
    assert "train.parquet has other content than was published" in problem
    assert "try: lmgraft store verify --repair" in problem
    cli([*verify, "--repair"], place).problem()
    assert "reference" not in artifacts(place)
    assert "is whole" in cli(verify, place).check().out


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20])


def change(name: str, **values: object) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | values))


@pytest.mark.parametrize(
    ("kind", "harm", "says"),
    [
        ("corpus", lambda folder: next(folder.glob("train-*.parquet")).unlink(), "no train split"),
        ("corpus", change("funnel.json", documents={"train": 1}), "tells of {'train': 1} documents"),
        ("tokenizer", lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer.json"),
        ("tokens", change("tokens.json", vocab_size=5), "is not in the vocabulary"),
        ("model", cut("model.safetensors"), "bytes long and its header speaks of"),
        ("model", lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        ("reference", cut("train.parquet"), "train.parquet cannot be read"),
        ("reference", lambda folder: score(folder, told=4), "holds 3 rows: reference.json tells of 4"),
        ("reference", lambda folder: score(folder, logprob=float("nan")), "3 of them have a log-probability"),
        ("reference", lambda folder: (folder / "reference.json").write_text("{"), "reference.json cannot be read"),
        ("scores", lambda folder: (folder / "scores.json").write_text("[{}]"), "record 1 has the keys none"),
    ],
)
def test_what_a_stage_wrote_wrongly_is_told_and_kept(
    cli: WarmCli, place: Path, tmp_path: Path, kind: str, harm: Callable[[Path], object], says: str
) -> None:
    sound = tmp_path / "sound"
    shutil.copytree(artifacts(place)[kind], sound)
    for file in sound.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    harm(sound)
    store = Store(tmp_path / "other")
    made = publish(store, kind, lambda out: shutil.copytree(sound, out, dirs_exist_ok=True))
    for more in ([], ["--repair"]):
        problem = cli(["store", "verify", "--dir", store.root, *more], tmp_path).problem()
        assert f"is undamaged and no sound {kind}" in problem
        assert says in problem
    assert made.is_dir()


def test_a_third_partys_kind_is_known_by_its_digest_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    made = publish(store, "graph", lambda out: (out / "nodes.bin").write_bytes(bytes(100)))
    assert store.verify(broken=broken) == []
    flip(made / "nodes.bin")
    assert "nodes.bin has other content" in store.verify(broken=broken)[0].cause


@pytest.mark.parametrize("command", ["ls", "verify", "gc"])
@pytest.mark.parametrize("word", ["store.dir=my store", "my store", "+store.dir=my store"])
def test_a_store_named_in_another_way_is_told_with_the_option(
    cli: WarmCli, tmp_path: Path, command: str, word: str
) -> None:
    problem = cli(["store", command, word], tmp_path).problem()
    lines = problem.splitlines()
    assert len(lines) == 3
    assert lines[0] == f"lmgraft store {command} {word}"
    assert lines[1].endswith("--dir names the store")
    assert lines[2] == f"  try: lmgraft store {command} --dir 'my store'"
