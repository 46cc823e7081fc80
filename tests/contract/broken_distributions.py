"""Distributions that are wrong in the ways third parties' are, and good ones beside them. All are installed at once."""

from __future__ import annotations

from third_party import Distribution, component, module

__all__ = ["ALL", "PROBLEMS"]


def _one(name: str, source: str, *names: str, seam: str = "filter", **files: str) -> Distribution:
    """A distribution of one light module, and other modules by name."""
    package = name.replace("-", "_")
    contents = {f"{package}/__init__.py": "", f"{package}/plugin.py": source}
    contents |= {f"{package}/{module}.py": text for module, text in files.items()}
    return Distribution(name, contents, {seam: dict.fromkeys(names or (name,), f"{package}.plugin")})


def _filter(name: str, **more: object) -> str:
    return module("filter", component(name, **more))  # type: ignore[arg-type]


CLASHING = [
    Distribution(
        name,
        {f"{package}/__init__.py": "", f"{package}/plugin.py": _filter("clash")},
        {"filter": {"clash": f"{package}.plugin"}},
        version=version,
    )
    for name, package, version in (("clash-one", "clash_one", "1.0"), ("clash-two", "clash_two", "2.0"))
]

WANTS_NEWER = Distribution(
    "wants-newer",
    {"wants_newer/__init__.py": "", "wants_newer/plugin.py": _filter("wants_newer")},
    {"filter": {"wants_newer": "wants_newer.plugin"}},
    requires=["lmgraft>=9"],
)

#: distribution -> (state, a piece of the cause, a piece of the remedy); the part has the distribution's name.
PROBLEMS = {
    "raises-import": ("broken", "No module named 'no_such_module_anywhere'", "pip install --upgrade raises-import"),
    "raises-syntax": ("broken", "importing raises_syntax.plugin raised SyntaxError", "pip install --upgrade"),
    "raises-exit": ("broken", "importing raises_exit.plugin raised SystemExit: 3", "pip install --upgrade"),
    "future-seam": ("incompatible", "speaks version 99 of the filter seam; this lmgraft speaks 1", "--upgrade"),
    "wants-newer": ("incompatible", "it wants lmgraft>=9, and this is lmgraft", "or the lmgraft that it wants"),
    "needs-more": ("broken", "it needs no-such-dist>=1", "pip install 'no-such-dist>=1'"),
    "says-other": ("broken", "promise says-other and its hook returns says_other", "make the two lists equal"),
    "spells-wrong": ("broken", "there is no hook lmgraft_fliter; did you mean lmgraft_filter?", "mend the hook"),
    "config-plain": ("broken", "the config of config-plain, Plain, is no dataclass", "decorate it with @dataclass"),
    "config-other": ("broken", "does not derive from ComponentConfig", "derive it in config_other.plugin"),
    "no-target": ("broken", "No module named 'nowhere'", "lmgraft plugins why DISTRIBUTION"),
}

BROKEN = [
    *CLASHING,
    WANTS_NEWER,
    _one("raises-import", module("filter", before="import no_such_module_anywhere")),
    _one("raises-syntax", "def broken(:\n"),
    _one("raises-exit", module("filter", before="raise SystemExit(3)")),
    _one("future-seam", _filter("future-seam", api=99)),
    _one("needs-more", _filter("needs-more", requires=("no-such-dist>=1",))),
    _one("says-other", _filter("says_other")),
    _one("spells-wrong", module("filter", component("spells-wrong"), hook="lmgraft_fliter")),
    _one("config-plain", module("filter", component("config-plain", config="Plain"),
                                before="class Plain(ComponentConfig):\n    share: float = 0.5")),
    _one("config-other", _filter("config-other", config="dict")),
    _one("no-target", _filter("no-target")),
]  # fmt: skip

KEEPING = """\
from lmgraft.seams.filter import KEEP


class Keeping:
    def __init__(self, config):
        self.config = config

    def judge(self, batch):
        return [KEEP for _ in batch]
"""

#: Prints as it is imported, which must not end up in what a command prints.
GOOD = Distribution(
    "good-parts",
    {
        "good_parts/__init__.py": "",
        "good_parts/plugin.py": module(
            "filter",
            component("keeping", "good_parts.filter:Keeping"),
            before="""
                print("good_parts prints as it is imported")

                @dataclass
                class Flat(ComponentConfig):
                    size: int = 1

                @hookimpl
                def lmgraft_schedule():
                    return [Component(name="flat", target="good_parts.schedule:Flat", config=Flat, summary="Flat")]
            """,
        ),
        "good_parts/filter.py": KEEPING,
        "good_parts/schedule.py": """\
            class Flat:
                def __init__(self, config):
                    self.config = config

                def factor(self, step, steps):
                    return 1.0

                def extendable(self):
                    return True
        """,
        "good_parts/conf/filter/keeping/many.yaml": """\
            defaults: [/filter/keeping@_here_, _self_]
            keeping:
              size: 1000
        """,
        "good_parts/conf/schedule/flat/long.yaml": """\
            defaults: [/schedule/flat@_here_, _self_]
            size: 77
        """,
    },
    {"filter": {"keeping": "good_parts.plugin"}, "schedule": {"flat": "good_parts.plugin"}},
)

#: A kind of stage: an artifact of its own, from a corpus, with a slot for a part of another distribution.
KIND = Distribution(
    "good-kind",
    {
        "good_kind/__init__.py": "",
        "good_kind/plugin.py": module(
            "stage",
            component("letters", "good_kind.letters:Letters", config="LettersConfig"),
            before='''
                from typing import Any


                @dataclass
                class LettersConfig(StageConfig):
                    """Counts letters."""

                    artifact = "letters"

                    schedule: Any = slot("schedule", optional=True)
                    corpus: str = from_stage("corpus", default="corpus")
                    upper: bool = False
            ''',
        ),
        "good_kind/letters.py": """\
            import json
            from collections import Counter

            from lmgraft.artifacts import corpus


            class Letters:
                artifact = "letters"

                def __init__(self, config):
                    self.config = config

                def identity(self, context):
                    return {}

                def run(self, context):
                    counts = Counter()
                    (source,) = context.inputs["corpus"]
                    for document in corpus.documents(source.path, "train"):
                        counts.update(document.text.upper() if self.config.upper else document.text)
                    schedule = context.part("schedule")
                    written = {"counts": counts, "factor": schedule.factor(0, 1), "size": schedule.config.size}
                    (context.out / "letters.json").write_text(json.dumps(written, sort_keys=True))
                    context.emit({"letters": counts.total()})

                def summary(self, artifact):
                    counts = json.loads((artifact.path / "letters.json").read_text())["counts"]
                    yield "letters", str(sum(counts.values()))
        """,
    },
    {"stage": {"letters": "good_kind.plugin"}},
)

RECIPES = Distribution(
    "good-recipes",
    {
        "good_recipes/__init__.py": "raise AssertionError('recipes are found without an import')",
        "good_recipes/recipes/one_text.yaml": """\
            # Purpose: one text through a filter and a count.
            # Hardware: anything.
            # Minutes: 1
            # Expect: a count of letters.
            defaults:
              - base
              - stage@corpus: corpus
              - data_source@corpus.sources: [files]
              - filter@corpus.filters: [keeping]
              - stage@count: letters
              - schedule@count.schedule: flat
              - lifecycle@lifecycle: [diary]
              - _self_
            stages: [corpus, count]
            corpus:
              workers: 1
              sources:
                files:
                  path: text
        """,
    },
    {"recipes": {"good_recipes": "good_recipes.recipes"}},
)

TRACKERS = Distribution(
    "good-trackers",
    {
        "good_trackers/__init__.py": "",
        "good_trackers/plugin.py": module(
            "lifecycle",
            *(component(name, f"good_trackers.impl:{name.title()}") for name in ("diary", "fragile", "mistaken")),
        ),
        "good_trackers/impl.py": """\
            import os

            from lmgraft.hookspecs import hookimpl


            class Diary:
                def __init__(self, config):
                    self.file = os.environ["DIARY"]

                def write(self, *words):
                    with open(self.file, "a") as file:
                        print(*words, file=file)

                @hookimpl
                def lmgraft_run_start(self, run):
                    self.write("run_start", run.recipe, run.seed, len(run.config["stages"]))

                @hookimpl
                def lmgraft_stage_start(self, stage):
                    self.write("stage_start", stage)

                @hookimpl
                def lmgraft_step(self, stage, row):
                    self.write("step", stage, *sorted(row))

                @hookimpl
                def lmgraft_stage_end(self, stage, status):
                    self.write("stage_end", stage, status)

                @hookimpl
                def lmgraft_run_end(self, run, status):
                    self.write("run_end", status)


            class Fragile(Diary):
                def write(self, *words):
                    raise RuntimeError("it broke")


            class Mistaken:
                def __init__(self, config):
                    pass

                @hookimpl
                def lmgraft_on_step(self, stage, row):
                    pass
        """,
    },
    {"lifecycle": dict.fromkeys(("diary", "fragile", "mistaken"), "good_trackers.plugin")},
)

ALL = [*BROKEN, GOOD, KIND, RECIPES, TRACKERS]
