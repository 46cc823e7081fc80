"""The steps of the recipe web_corpus as datatrove has them, run in the peer's own environment.

Called with one JSON object: ``warc`` (folder), ``documents`` (JSON lines of id and markup), ``out`` (folder), ``languages``.
Writes ``out/warc.json``, what the peer's own reader finds in the archives, and ``out/STEP.json`` for each step, begun
with ``documents``: the ids that are left, in order, each with the text's sha256 and length.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LambdaFilter,
)
from datatrove.pipeline.readers import JsonlReader, WarcReader
from datatrove.pipeline.writers import JsonlWriter
from py3langid.langid import MODEL_FILE, LanguageIdentifier

GIVEN = json.loads(sys.argv[1])
OUT = Path(GIVEN["out"])


class Trace(PipelineStep):
    """Notes which documents pass."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    def run(self, data, rank=0, world_size=1):
        rows = []
        for document in data:
            text = document.text.encode("utf-8", "surrogatepass")
            rows.append([document.id, hashlib.sha256(text).hexdigest(), len(document.text)])
            yield document
        (OUT / f"{self.step}.json").write_text(json.dumps(rows))


MODEL = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def in_languages(document) -> bool:
    language, score = MODEL.classify(document.text)
    return language in GIVEN["languages"] and score >= 0.65


def steps() -> list[PipelineStep]:
    # No step that remembers other pages (deduplicate) and none that a busy machine decides (the time limit).
    yield Trafilatura(favour_precision=True, deduplicate=False, timeout=600)
    yield Trace("html_text")
    yield LambdaFilter(in_languages)
    yield Trace("language")
    yield GopherRepetitionFilter()
    yield Trace("gopher_repetition")
    yield GopherQualityFilter()
    yield Trace("gopher_quality")
    yield C4QualityFilter(filter_no_terminal_punct=False)
    yield Trace("c4")
    yield FineWebQualityFilter()
    yield Trace("fineweb")


def execute(pipeline: list[PipelineStep], name: str, tasks: int = 1) -> None:
    LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(OUT / "logs" / name)).run()


def main() -> None:
    folders = {name: str(OUT / name) for name in ("kept", "sigs", "buckets", "remove")}
    execute([WarcReader(GIVEN["warc"]), Trace("warc")], "warc")
    execute([JsonlReader(GIVEN["documents"]), Trace("read"), *steps(), JsonlWriter(folders["kept"])], "steps")
    config = MinhashConfig()
    execute([JsonlReader(folders["kept"]), MinhashDedupSignature(folders["sigs"], config)], "sigs")
    execute([MinhashDedupBuckets(folders["sigs"], folders["buckets"], config=config)], "buckets", config.num_buckets)
    execute([MinhashDedupCluster(folders["buckets"], folders["remove"], config)], "cluster")
    execute([JsonlReader(folders["kept"]), MinhashDedupFilter(folders["remove"]), Trace("minhash")], "filter")


if __name__ == "__main__":
    main()
