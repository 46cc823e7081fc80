"""The conformance kit: one suite of checks a seam, for pytest and for ``lmgraft plugins check DISTRIBUTION``.

Suites hold a part to its seam's contract as installed: light import, settings, packaging, and the rules that the
seam's module states. See :class:`lmgraft.testing.suite.Suite` for how a suite of your own looks.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "SUITES",
    "AdapterSuite",
    "ArchitectureSuite",
    "DataSourceSuite",
    "EvaluatorSuite",
    "ExporterSuite",
    "FilterSuite",
    "InitializerSuite",
    "LifecycleSuite",
    "MergeSuite",
    "Nonconforming",
    "NotApplicable",
    "ObjectiveSuite",
    "OptimizerSuite",
    "ParallelismSuite",
    "PartSuite",
    "ScheduleSuite",
    "StageSuite",
    "TeacherSuite",
    "TokenizerSuite",
]

#: seam or door -> its suite
SUITES = {
    "data_source": "DataSourceSuite",
    "filter": "FilterSuite",
    "tokenizer": "TokenizerSuite",
    "architecture": "ArchitectureSuite",
    "parallelism": "ParallelismSuite",
    "objective": "ObjectiveSuite",
    "evaluator": "EvaluatorSuite",
    "initializer": "InitializerSuite",
    "adapter": "AdapterSuite",
    "merge": "MergeSuite",
    "exporter": "ExporterSuite",
    "optimizer": "OptimizerSuite",
    "schedule": "ScheduleSuite",
    "teacher": "TeacherSuite",
    "stage": "StageSuite",
    "lifecycle": "LifecycleSuite",
}
_MODULES = {suite: f"lmgraft.testing.{seam}" for seam, suite in SUITES.items()} | {
    "PartSuite": "lmgraft.testing.common",
    "Nonconforming": "lmgraft.testing.outcome",
    "NotApplicable": "lmgraft.testing.outcome",
}


def __getattr__(name: str) -> Any:
    # A check of a data source need not wait for torch: each suite is imported when it is asked for.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
