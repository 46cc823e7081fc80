"""SIGKILL to the tokens stage at any moment: what comes out is what an undisturbed run makes, and work is kept."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lmgraft.artifacts import Artifact, _token_writer
from lmgraft.encoding import batches, engines
from lmgraft.stages.encoders import Encoder
from lmgraft.stages.plugin import TokensStage
from lmgraft.stages.tokens import Tokens
from lmgraft_byte_bpe.plugin import ByteBPEConfig
from lmgraft_byte_bpe.tokenizer import ByteBPE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")

TEXTS = [f"document {n}: it's {'so ' * (n * 7919 % 61)}long\n\n" for n in range(1500)]
TEXTS[700] = "a long one over several batches, ünïcode 漢字 too\n" * 900
ENCODERS = ["tokenizers"]
if find_spec("gigatoken"):
    import awkward  # noqa: F401  (once, not in every fork)
    import gigatoken  # noqa: F401

    ENCODERS += ["gigatoken"]


class Context:
    """What the stage needs of the runner; tells how far it is in a file."""

    name = "tokens"

    def __init__(self, root: Path, inputs: Mapping[str, list[Artifact]], pause: float) -> None:
        self.out, self.work, self.inputs, self._pause = root / "out", root / "work", inputs, pause
        self._root = root
        self._done = 0.0

    @contextmanager
    def progress(self, title: str, total: float | None, unit: str) -> Iterator[Context]:
        yield self

    def advance(self, amount: float = 1, **shown: Any) -> None:
        if not self._done:
            (self._root / "resumed").write_text(str(amount))
        self._done += amount + 1
        (self._root / "done").write_text(str(self._done))

    def note(self, text: str) -> None:
        pass

    def emit(self, row: Mapping[str, Any]) -> None:
        pass

    def alive(self) -> None:
        time.sleep(self._pause)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Artifact]]:
    corpus, tokenizer = tmp_path_factory.mktemp("corpus"), tmp_path_factory.mktemp("tokenizer")
    part = ByteBPE(ByteBPEConfig(vocab_size=400))
    part.train(TEXTS[:400])
    part.save(tokenizer)
    for split, texts in (("train", TEXTS), ("validation", TEXTS[:90])):
        table = pa.table({"id": [f"s/{split}{n}" for n in range(len(texts))], "text": texts})
        pq.write_table(table, corpus / f"{split}-00000-of-00001.parquet", row_group_size=400)
    (corpus / "funnel.json").write_text('{"bytes": {"train": 200000, "validation": 9000}}')
    return {
        "corpus": [Artifact("corpus", corpus, "", "corpus")],
        "tokenizer": [Artifact("tokenizer", tokenizer, "", "tokenizer")],
    }


def forked(work: Callable[[], None]) -> int:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_killed_anywhere_it_goes_on(
    inputs: dict[str, list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    monkeypatch.setattr(engines.Reference, "batch_bytes", 2000)
    monkeypatch.setattr(engines.Gigatoken, "batch_bytes", 2000)
    monkeypatch.setattr(batches, "PIECE_BYTES", 1500)
    monkeypatch.setattr(_token_writer, "SEAL_BYTES", 1000)

    def run(root: Path, pause: float) -> None:
        Tokens(TokensStage(workers=2, encoder=Encoder(encoder))).run(Context(root, inputs, pause))

    whole, root = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, root):
        (folder / "out").mkdir(parents=True)
    assert os.waitpid(forked(lambda: run(whole, 0)), 0)[1] == 0
    chance, kills, resumed = random.Random(7), 0, 0
    for _ in range(200):
        shutil.rmtree(root / "out")  # as the runner does after a crash
        (root / "out").mkdir()
        (root / "done").unlink(missing_ok=True)
        pid = forked(lambda: run(root, 0.002))
        while not (root / "done").exists() and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05 * (kills + 1)))  # longer and longer: it comes to its end
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        resumed += float((root / "resumed").read_text() or 0) > 0
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills += 1
    assert kills > 2
    assert resumed > 2
    assert contents(root / "out") == contents(whole / "out")
