"""datatrove's four-stage MinhashDedup on a folder of JSON Lines: ``python minhash.py IN OUT``, 2 tasks and 2 workers."""

import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig


def main(source: str, out: str) -> None:
    config = MinhashConfig(hash_config=HashConfig(precision=64), num_buckets=14, hashes_per_bucket=8, n_grams=5)
    work = Path(out)

    def stage(number: int, pipeline: list, tasks: int) -> None:
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=2, logging_dir=str(work / "logs" / str(number))).run()

    signatures, buckets, clusters = (str(work / name) for name in ("signatures", "buckets", "clusters"))
    stage(1, [JsonlReader(source), MinhashDedupSignature(signatures, config)], 2)
    stage(2, [MinhashDedupBuckets(signatures, buckets, config=config)], 14)
    stage(3, [MinhashDedupCluster(buckets, clusters, config=config)], 1)
    kept = JsonlWriter(str(work / "kept"), compression=None)
    stage(4, [JsonlReader(source), MinhashDedupFilter(clusters), kept], 2)


if __name__ == "__main__":
    main(*sys.argv[1:])
