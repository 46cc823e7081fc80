"""Distributions that are wrong in the ways third parties' are, and good ones beside them. All are installed at once."""

from __future__ import annotations

from pathlib import Path

from third_party import Distribution, component, module

__all__ = ["ALL", "FAULTS", "PROBLEMS", "damage"]


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
    "future-seam": (
        "incompatible",
        "speaks version 99 of the filter seam; this lmgraft speaks 1",
        "pip install --upgrade lmgraft",
    ),
    "past-seam": ("incompatible", "speaks version 0 of the filter seam", "pip install --upgrade past-seam"),
    "wants-newer": ("incompatible", "it wants lmgraft>=9, and this is lmgraft", "or the lmgraft that it wants"),
    "needs-more": ("broken", "it needs no-such-dist>=1", "pip install 'no-such-dist>=1'"),
    "says-other": ("broken", "promise says-other and its hook returns says_other", "make the two lists equal"),
    "spells-wrong": ("broken", "there is no hook lmgraft_fliter; did you mean lmgraft_filter?", "mend the hook"),
    "takes-argument": ("broken", "the hook lmgraft_filter has no argument recipe; it has none", "mend the hook"),
    "no-hook": ("broken", "has no @hookimpl function lmgraft_filter", "define lmgraft_filter() in no_hook.plugin"),
    "hook-raises": ("broken", "its hook raised ZeroDivisionError", "pip install --upgrade hook-raises"),
    "hook-returns": ("broken", "its hook returned str, not Component", "pip install --upgrade hook-returns"),
    "wrong-kind": ("broken", "requires of its Component is 'torch'", "as lmgraft.component.Component declares it"),
    "bad-require": ("broken", "requires 'torch >=> 2', which is no valid requirement", "write it as in PEP 508"),
    "config-plain": ("broken", "the config of config-plain, Plain, is no dataclass", "decorate it with @dataclass"),
    "config-other": ("broken", "does not derive from ComponentConfig", "derive it in config_other.plugin"),
    "config-fails": ("broken", "the config of config-fails cannot be composed: ", "use plain values, Enum, list"),
    "names-object": ("broken", "its entry point names an object, names_object.plugin:it", "writes names_object.plugin"),
    "package-gone": ("broken", "its package nowhere_at_all is not on", "pip install --force-reinstall package-gone"),
    "absent-class": ("broken", "absent_class.impl has no Absent", "mend the target of absent-class"),
    "exits-class": ("broken", "importing exits_class.impl:Exits raised SystemExit", "lmgraft plugins why"),
    "hears-wrong": (
        "broken",
        "there is no hook lmgraft_on_step; did you mean lmgraft_step?",
        "mend hears_wrong.impl:It",
    ),
    "hears-more": (
        "broken",
        "the hook lmgraft_step has no argument rows; did you mean row?",
        "mend hears_more.impl:It",
    ),
    "hears-none": ("broken", "it implements none of lmgraft_run_start, ", "mend hears_none.impl:It"),
    "no-target": ("broken", "No module named 'nowhere'", "lmgraft plugins why no-target"),
}

#: What is no part at all: distribution -> (how `why` calls it, a piece of the cause, a piece of the remedy).
FAULTS = {
    "strays": (
        "filters strays", "lmgraft.filters is none of lmgraft", 'author writes [project.entry-points."lmgraft.filter"]',
    ),
    "torn-points": (
        "torn-points", "its entry_points.txt cannot be read: ", "pip install --force-reinstall torn-points",
    ),
    "odd-bytes": ("odd-bytes", "its entry_points.txt cannot be read: 'utf-8' codec can't decode", "--force-reinstall"),
    "torn_head": ("torn_head", "its metadata cannot be read: UnicodeDecodeError", "torn_head-1.0.dist-info"),
    "half_gone": ("half_gone", "its metadata gives no name", "-1.0.dist-info, and pip install half_gone again"),
}  # fmt: skip


def damage(site: Path) -> None:
    """What no pip installs: disks and interrupted commands leave it."""
    (site / "torn_points-1.0.dist-info/entry_points.txt").write_text("[lmgraft.filter]\ntorn-points\n")
    (site / "odd_bytes-1.0.dist-info/entry_points.txt").write_bytes(b"[lmgraft.filter]\nodd-bytes = \xff\xfe\n")
    (site / "torn_head-1.0.dist-info/METADATA").write_bytes(b"Name: torn\xff\nVersion: 1.0\n")
    (site / "half_gone-1.0.dist-info/METADATA").unlink()


def _tracker(name: str, method: str) -> Distribution:
    package = name.replace("-", "_")
    implementation = f"""\
        from lmgraft.hookspecs import hookimpl


        class It:
            def __init__(self, config):
                pass

            {method}
                pass
    """
    source = module("lifecycle", component(name, f"{package}.impl:It"))
    return _one(name, source, seam="lifecycle", impl=implementation)


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
    _one("past-seam", _filter("past-seam", api=0)),
    _one("takes-argument", _filter("takes-argument").replace("lmgraft_filter()", "lmgraft_filter(recipe)")),
    _one("no-hook", _filter("no-hook").replace("@hookimpl\n", "")),
    _one("hook-raises", module("filter", "1 / 0")),
    _one("hook-returns", module("filter", "'hook-returns'")),
    _one("wrong-kind", _filter("wrong-kind", requires="torch")),
    _one("bad-require", _filter("bad-require", requires=("torch >=> 2",))),
    _one("config-fails", module("filter", component("config-fails", config="Fails"),
                                before="@dataclass\nclass Fails(ComponentConfig):\n    size: complex = 1j")),
    Distribution("names-object", {"names_object/plugin.py": "it = []\n"},
                 {"filter": {"names-object": "names_object.plugin:it"}}),
    Distribution("package-gone", {}, {"filter": {"package-gone": "nowhere_at_all.plugin"}}),
    _one("absent-class", _filter("absent-class", target="absent_class.impl:Absent"), impl=""),
    _one("exits-class", _filter("exits-class", target="exits_class.impl:Exits"), impl="raise SystemExit(1)\n"),
    _tracker("hears-wrong", "@hookimpl\n            def lmgraft_on_step(self, row):"),
    _tracker("hears-more", "@hookimpl\n            def lmgraft_step(self, rows):"),
    _tracker("hears-none", "def lmgraft_step(self, row):"),
    _one("strays", _filter("strays"), seam="filters"),
    *(_one(name, _filter(name)) for name in ("torn-points", "odd-bytes", "torn-head", "half-gone")),
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
