"""The suite of seam ``filter``, row-wise and corpus-wise."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import CorpusFilter, FittedFilter, RowFilter, Verdict
from lmgraft.testing.common import PartSuite
from lmgraft.testing.inputs import columns_of, documents
from lmgraft.testing.outcome import NotApplicable

__all__ = ["FilterSuite"]

#: A drop's reason is a key of the funnel.
_REASON = re.compile(r"[a-z0-9][a-z0-9_]*")

# A worker process builds its own part; hash randomisation makes the order of sets another one there.
_ELSEWHERE = """
import json, pickle, sys
from lmgraft.registry import build
from lmgraft.testing import FilterSuite
part, name, config, shown, out = pickle.load(sys.stdin.buffer)
subject = type("There", (FilterSuite,), {"component": name, "documents": lambda self: shown})()
subject.setup_method()
try:
    found = subject.behaviour(build(part, config))
finally:
    subject.teardown_method()
with open(out, "w") as file:
    json.dump(found, file)
"""


class FilterSuite(PartSuite):
    """Holds a filter to the rules of :mod:`lmgraft.seams.filter`.

    ``count`` documents with the columns that the filter needs are shown to it; override :meth:`documents` to show
    others, so that every rule of yours fires at least once.
    """

    seam = "filter"
    count: ClassVar[int] = 120

    def documents(self) -> list[Document]:
        """What the filter is shown."""
        found = documents(columns_of(self.compose().needs()), self.count)
        # Some exact copies, for filters that look for them.
        return found + [_copied(document, number) for number, document in enumerate(found[:12])]

    def behaviour(self, part: Any) -> Any:
        shown = self.documents()
        return [[number, *_plain(verdict)] for number, verdict in enumerate(self._verdicts(part, shown, len(shown)))]

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_order_and_length(self) -> None:
        """one verdict for each document, in order"""
        part, shown = self._fitted(self.build()), self.documents()
        if not isinstance(part, RowFilter):
            self._positions(part, shown)
            return
        verdicts = part.judge(shown)
        self.require(
            isinstance(verdicts, list) and len(verdicts) == len(shown),
            f"{self.name} gave {_counted(verdicts)} for {len(shown)} documents",
            "core matches verdicts to documents by their place",
            "return a list with one verdict for each document of the batch, KEEP for those that stay",
        )
        turned = part.judge(shown[::-1])
        self.require_equal(
            [_plain(verdict) for verdict in verdicts],
            [_plain(verdict) for verdict in turned[::-1]],
            f"{self.name} gives a document another verdict when the batch is turned round",
            "return verdicts in the batch's order; a filter in which other documents matter is corpus-wise "
            "(`sketch` and `resolve`)",
        )

    def test_reasons_are_given(self) -> None:
        """what is dropped or rewritten says why, in a short stable word; cuts are sound"""
        part, shown = self.build(), self.documents()
        fired = 0
        for document, verdict in zip(shown, self._verdicts(part, shown, len(shown)), strict=True):
            changed = not verdict.keep or verdict.text is not None or verdict.cuts
            fired += bool(changed)
            needs_word = bool(changed) and not (verdict.keep and verdict.cuts and verdict.text is None)
            self.require(
                not needs_word or bool(_REASON.fullmatch(verdict.reason)),
                f"{self.name} {_deed(verdict)} {document.id} with the reason {verdict.reason!r}",
                "the reason is a key of the funnel, where people look for what was lost and why",
                'Verdict.drop("too_short"): lower-case letters, digits and _, the same word each time',
            )
            self._sound(verdict, document)
        if not fired:
            raise NotApplicable("it kept every document whole; settings or documents() of the suite can make it fire")

    def test_batch_size_is_irrelevant(self) -> None:
        """batches of one, of seven and of all documents give the same verdicts"""
        part, shown = self.build(), self.documents()
        whole = [_plain(verdict) for verdict in self._verdicts(part, shown, len(shown))]
        for size in (1, 7):
            parted = [_plain(verdict) for verdict in self._verdicts(part, shown, size)]
            self.require_equal(
                whole,
                parted,
                f"{self.name} gives other verdicts in batches of {size} than in one of {len(shown)}",
                "judge each document by itself; what depends on the others belongs into a corpus-wise filter",
            )

    def test_workers_are_irrelevant(self) -> None:
        """another process, with another order of sets and hashes, gives the same verdicts"""
        here, out = self.behaviour(self.build()), self.folder / "elsewhere.json"
        env = {**os.environ, "PYTHONHASHSEED": "4242", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        sent = pickle.dumps((self.installed.component, self.component, self.compose(), self.documents(), str(out)))
        done = subprocess.run([sys.executable, "-c", _ELSEWHERE], input=sent, env=env, capture_output=True)
        said = done.stderr.decode(errors="replace").strip().splitlines()
        self.require(
            done.returncode == 0,
            f"{self.name} fails in a worker process",
            said[-1] if said else f"exit code {done.returncode}",
            "build and judge without anything that only the first process has",
        )
        self.require_equal(
            here,
            json.loads(out.read_text()),
            f"{self.name} gives other verdicts in another process",
            "depend on the document and the settings only: not on hash(), the order of a set, the time or the process",
        )

    # --- how core calls a filter ------------------------------------------------------------------------------------

    def _verdicts(self, part: Any, shown: Sequence[Document], size: int) -> list[Verdict]:
        part = self._fitted(part)
        batches = [shown[start : start + size] for start in range(0, len(shown), size)]
        if isinstance(part, RowFilter):
            return [verdict for batch in batches for verdict in part.judge(batch)]
        return self._resolved(part, batches, len(shown))

    def _fitted(self, part: Any) -> Any:
        """The part after it has learnt, if it does; as in core, that comes before anything is shown to it."""
        if isinstance(part, FittedFilter):
            from lmgraft.stages._corpus_rows import rows

            workdir = self.folder / "fit"
            workdir.mkdir(exist_ok=True)
            part.fit({role: rows(Path(file)) for role, file in part.inputs().items()}, workdir)
        return part

    def _resolved(self, part: CorpusFilter, batches: Sequence[Sequence[Document]], total: int) -> list[Verdict]:
        from lmgraft.seams.filter import KEEP

        found = [KEEP] * total
        for position, verdict in self._named(part, batches):
            found[position] = verdict
        return found

    def _named(self, part: CorpusFilter, batches: Sequence[Sequence[Document]]) -> Iterator[tuple[int, Verdict]]:
        from lmgraft.spool import Spool

        schema = part.schema()
        spool, position = Spool(self.folder / "spool", schema, memory_mb=16), 0
        for batch in batches:
            sketched = part.sketch(batch, range(position, position + len(batch)))
            self.require(
                sketched.schema.equals(schema),
                f"{self.name} sketches other columns than its schema() says",
                f"schema(): {schema}; sketch(): {sketched.schema}".replace("\n", ", "),
                "build the batch with pa.record_batch(arrays, schema=self.schema())",
            )
            spool.append(sketched)
            position += len(batch)
        workdir = self.folder / "resolve"
        workdir.mkdir(exist_ok=True)
        yield from part.resolve(spool.sort(part.order()), workdir, 16)

    def _positions(self, part: CorpusFilter, shown: Sequence[Document]) -> None:
        seen = [position for position, _ in self._named(part, [shown])]
        wrong = [position for position in seen if not 0 <= position < len(shown)]
        self.require(
            not wrong and len(set(seen)) == len(seen),
            f"{self.name} resolves position {wrong[0] if wrong else 'of one document twice'}",
            f"there are {len(shown)} documents, numbered from 0, and each takes one verdict",
            "yield (position, verdict) once for each document that is not kept whole, with the positions of the sketch",
        )

    def _sound(self, verdict: Verdict, document: Document) -> None:
        end = 0
        for start, stop in verdict.cuts:
            self.require(
                end <= start < stop <= len(document.text or ""),
                f"{self.name} cuts [{start}, {stop}) out of {document.id}",
                f"spans are ascending, disjoint and inside the text of {len(document.text or '')} characters",
                "sort and join the spans, and count in characters of the text as it came",
            )
            end = stop


def _counted(verdicts: Any) -> str:
    return f"{len(verdicts)} verdicts" if isinstance(verdicts, list) else f"a {type(verdicts).__name__}"


def _deed(verdict: Verdict) -> str:
    return "rewrites" if verdict.keep else "drops"


def _plain(verdict: Verdict) -> list[Any]:
    return [verdict.keep, verdict.reason, verdict.text, [list(span) for span in verdict.cuts]]


def _copied(document: Document, number: int) -> Document:
    import dataclasses

    return dataclasses.replace(document, id=f"kit:copy {number}")
