"""Faults of data sources and filters."""

from __future__ import annotations

from faults.fault import Fault, conformance, light

__all__ = ["FAULTS"]

# --- data sources: a file of JSON strings, one a line -------------------------------------------------------------

SOURCE = {
    "plugin.py": light(
        "data_source",
        "A file of JSON strings, one a line",
        '''
        path: str = MISSING
        """The file."""
        lines: int = 1000
        """Lines that one worker reads at a time."""
        ''',
    ),
    "part.py": """\
        import json
        from itertools import islice
        from pathlib import Path

        from lmgraft.errors import Problem, UserError
        from lmgraft.seams.data_source import Document, Unit


        class Part:
            def __init__(self, config):
                self.file = Path(config.path)
                self.lines = config.lines

            def units(self):
                if not self.file.is_file():
                    raise UserError(Problem(f"{self.file} is missing", "the source reads it", "give path another file"))
                with self.file.open(encoding="utf-8") as stream:
                    count = sum(1 for _ in stream)
                return [
                    Unit(f"{self.file.name}:{start}", str(self.file), start=start, end=min(start + self.lines, count))
                    for start in range(0, count, self.lines)
                ]

            def read(self, unit, offset):
                with open(unit.path, encoding="utf-8") as stream:
                    first = unit.start + offset
                    rows = islice(stream, first, unit.end)
                    for number, row in enumerate(rows, first):
                        yield Document(f"{self.file.name}:{number}", text=self._text(row, number))

            def _text(self, row, number):
                try:
                    return str(json.loads(row))
                except ValueError as error:
                    remedy = "write one JSON string a line"
                    raise UserError(Problem(f"{self.file}, line {number + 1}", str(error), remedy)) from error
    """,
    "conformance.py": conformance(
        "DataSourceSuite",
        """
        settings = {"lines": 5}

        def write(self, folder, texts):
            file = folder / "texts.jsonl"
            file.write_text("".join(json.dumps(text) + "\\n" for text in texts), encoding="utf-8")
            return {"path": str(file)}
        """,
        imports="import json\n",
    ),
}

REPEATING = Fault(
    name="repeating-source",
    seam="data_source",
    files=SOURCE,
    slips=(("islice(stream, first, unit.end)", "islice(stream, first, unit.end + 1)"),),
    check="test_units_are_disjoint",
    says=("repeating_source", "unit"),
)

#: Takes the number of lines that are left for the number of the last one.
LOST_TAIL = Fault(
    name="lost-tail",
    seam="data_source",
    files=SOURCE,
    slips=(("islice(stream, first, unit.end)", "islice(stream, first, unit.end - offset)"),),
    check="test_offsets_resume",
    says=("lost_tail", "offset"),
)

# --- filters ------------------------------------------------------------------------------------------------------

UNSEEDED = Fault(
    name="unseeded-filter",
    seam="filter",
    files={
        "plugin.py": light(
            "filter",
            "Keeps a random share of the documents",
            '''
            share: float = 0.5
            """Of the documents, how many stay."""
            seed: int = 0
            """Another seed keeps others."""
            ''',
        ),
        "part.py": """\
            import random

            from lmgraft.seams.filter import KEEP, Verdict


            class Part:
                def __init__(self, config):
                    self.config = config

                def judge(self, batch):
                    drop = Verdict.drop("sampled")
                    return [KEEP if self._draw(one.id) < self.config.share else drop for one in batch]

                def _draw(self, name):
                    return random.Random(f"{self.config.seed} {name}").random()
        """,
    },
    slips=(('random.Random(f"{self.config.seed} {name}").random()', "random.random()"),),
    check="test_equal_builds",
    says=("unseeded_filter", "seed"),
)

#: Every build of one process adds to the same set; the second one finds every text in it.
SHARED_STATE = Fault(
    name="shared-state",
    seam="filter",
    files={
        "plugin.py": light(
            "filter",
            "Drops documents that begin like an earlier one",
            '''
            characters: int = 200
            """So many at the start of a text are compared."""
            ''',
        ),
        "part.py": '''\
            import hashlib

            import pyarrow as pa

            from lmgraft.seams.filter import Verdict

            COLUMNS = pa.schema([("digest", pa.string()), ("position", pa.int64())])


            class Part:
                def __init__(self, config):
                    self.characters = config.characters

                def schema(self):
                    return COLUMNS

                def order(self):
                    return ["position"]

                def sketch(self, batch, positions):
                    heads = [(one.text or "")[: self.characters].encode("utf-8", "replace") for one in batch]
                    digests = [hashlib.sha256(head).hexdigest() for head in heads]
                    return pa.record_batch([pa.array(digests), pa.array(positions, pa.int64())], schema=COLUMNS)

                def resolve(self, spool, workdir, memory_mb):
                    seen = set()
                    for batch in spool.batches():
                        for digest, position in zip(*(column.to_pylist() for column in batch.columns)):
                            if digest in seen:
                                yield position, Verdict.drop("same_start")
                            seen.add(digest)
        ''',
    },
    slips=(("def resolve(self, spool, workdir, memory_mb):\n                    seen = set()",
            "def resolve(self, spool, workdir, memory_mb, seen=set()):"),),
    check="test_no_shared_state",
    says=("shared_state", "mutable default"),
)  # fmt: skip

STRAY_WRITE = Fault(
    name="stray-write",
    seam="filter",
    files={
        "plugin.py": light(
            "filter",
            "Drops documents that a licence forbids",
            '''
            words: str = "all rights reserved"
            """What such a document says, in any case."""
            ''',
        ),
        "part.py": """\
            import logging

            from lmgraft.seams.filter import KEEP, Verdict

            log = logging.getLogger(__name__)


            class Part:
                def __init__(self, config):
                    self.words = config.words.casefold()

                def judge(self, batch):
                    verdicts = [Verdict.drop("licence") if self._says_so(one) else KEEP for one in batch]
                    dropped = [one.id for one, verdict in zip(batch, verdicts) if not verdict.keep]
                    log.info("dropped %s", dropped)
                    return verdicts

                def _says_so(self, document):
                    return self.words in (document.text or "").casefold()
        """,
        "conformance.py": conformance("FilterSuite", 'settings = {"words": "text 1"}'),
    },
    slips=(
        (
            'log.info("dropped %s", dropped)',
            'with open("dropped.txt", "a", encoding="utf-8") as file:\n'
            '                        file.writelines(f"{name}\\n" for name in dropped)',
        ),
    ),
    check="test_no_stray_writes",
    says=("stray_write", "dropped.txt", "below the folder"),
)

FAULTS = [REPEATING, LOST_TAIL, UNSEEDED, SHARED_STATE, STRAY_WRITE]
