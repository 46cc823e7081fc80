"""Encodes a split in threads, writes it in order, and goes on where an earlier process was killed.

The calling thread reads and writes; ``workers`` threads encode, which both libraries do without the interpreter's lock.
Two batches a worker are under way at most, so memory is bounded; what is written does not depend on how text was cut
into batches, nor on who encoded it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np

from lmgraft.artifacts import tokens
from lmgraft.artifacts._pieces import Cutter
from lmgraft.encoding.batches import TextBatch, TextReader
from lmgraft.encoding.checking import Spot
from lmgraft.encoding.engines import Engine, Gigatoken, Reference
from lmgraft.encoding.packing import Packed, pack
from lmgraft.seams.stage import StageContext

__all__ = ["encode_split"]

#: Seconds until the next look at whether the stage has to stop.
LOOK = 0.2


def encode_split(
    context: StageContext,
    engine: Engine,
    reference: Reference,
    cutter: Cutter | None,
    split: str,
    size: int,
    writer: tokens.TokenWriter,
    end_id: int,
    workers: int,
) -> tokens.SplitCount:
    """Writes a split of the stage's corpus, ``size`` bytes of text, and closes the writer.

    :raises lmgraft.encoding.checking.Differs: gigatoken was found to give other ids; what was written is worth nothing.
    """
    folder: Path = context.inputs["corpus"][0].path
    with writer, context.progress(f"encoding {split}", size or None, "B") as progress:
        done = {"bytes": 0, "characters": 0} | writer.counts
        progress.advance(done["bytes"])
        if not writer.finished:
            batches = TextReader(folder, split, cutter, engine.batch_bytes, writer.documents)
            encode = _encoder(engine, reference, split, end_id, writer.dtype)
            for packed in _in_order(encode, iter(batches), workers, context.alive):
                writer.add_packed(packed.data, packed.lengths, packed.open_tokens)
                done = {"bytes": done["bytes"] + packed.bytes, "characters": done["characters"] + packed.characters}
                writer.checkpoint(**done)
                progress.advance(packed.bytes)
                context.alive()
    return tokens.SplitCount(writer.documents, writer.tokens, done["bytes"], done["characters"])


def _encoder(
    engine: Engine, reference: Reference, split: str, end_id: int, dtype: np.dtype[Any]
) -> Callable[[TextBatch], Packed]:
    spot = Spot(reference, engine, split) if isinstance(engine, Gigatoken) else None

    def encode(batch: TextBatch) -> Packed:
        ids = engine.encode(batch)
        if spot:
            spot.check(batch, ids)
        return pack(batch, ids, end_id, dtype)

    return encode


def _in_order(
    encode: Callable[[TextBatch], Packed], batches: Iterator[TextBatch], workers: int, alive: Callable[[], None]
) -> Iterator[Packed]:
    waiting: deque[Future[Packed]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="encode") as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(encode, batch))
                if len(waiting) >= 2 * workers:
                    yield _result(waiting.popleft(), alive)
            while waiting:
                yield _result(waiting.popleft(), alive)
        finally:
            for future in waiting:
                future.cancel()


def _result(future: Future[Packed], alive: Callable[[], None]) -> Packed:
    while not wait([future], LOOK).done:
        alive()
    return future.result()
