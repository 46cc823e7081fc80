"""What decides a result is in the action key, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmgraft.artifacts import Artifact
from lmgraft.component import Component, ComponentConfig, StageConfig, execution, from_stage, slot, slots
from lmgraft.keys import Key, action_key, canonical
from lmgraft.recipe import PartUse, StageNode
from lmgraft.registry import Installed
from lmgraft.table import Row
from third_party import Distribution, forget


class Colour(Enum):
    red = "r"
    blue = "b"


class Level(IntEnum):
    low = 1


@dataclass
class Inner:
    """Settings within settings."""

    depth: int = 2
    threads: int = execution(1)


@dataclass
class FilterConfig(ComponentConfig):
    share: float = 0.5
    colour: Colour = Colour.red
    inner: Inner = field(default_factory=Inner)
    words: list[str] = field(default_factory=list)
    cache: str = execution("here")


@dataclass
class KindConfig(StageConfig):
    size: int = 1
    workers: int = execution(0)
    shares: dict[str, float] = field(default_factory=dict, metadata={"identity": True})
    filters: dict[str, Any] = slots("filter")
    layout: Any = slot("parallelism", execution=True)
    source: list[str] = from_stage("corpus", default=["corpus"])


@pytest.fixture
def packages(site) -> Path:
    """Two distributions' packages; their source is what keys hold of their code."""
    for name in ("first", "second", "kinds"):
        site.install(Distribution(f"key-{name}", {f"key_{name}/__init__.py": "", f"key_{name}/impl.py": "A = 1\n"}))
    return site.folder


def component(name: str, package: str, config: type[ComponentConfig], revision: int = 1) -> Component[Any]:
    return Component(name=name, target=f"{package}.impl:Part", config=config, summary="", revision=revision)


def part(stage: str, name: str, package: str = "key_first", revision: int = 1, **values: Any) -> PartUse:
    installed = Installed(
        Row("filter", name, package, "1.0", f"{package}.plugin", "unchecked"),
        component(name, package, FilterConfig, revision),
    )
    where = f"filters.{name}"
    return PartUse(f"{stage}.{where}", where, "filter", installed, FilterConfig(part=name, **values))


def layout(stage: str, package: str = "key_second") -> PartUse:
    installed = Installed(
        Row("parallelism", "wide", package, "1.0", f"{package}.plugin", "unchecked"),
        component("wide", package, FilterConfig),
    )
    config = FilterConfig(part="wide")
    return PartUse(f"{stage}.layout", "layout", "parallelism", installed, config, execution=True)


def stage(
    *parts: PartUse, name: str = "clean", kind: str = "kind", package: str = "lmgraft", revision: int = 1, **values: Any
) -> StageNode:
    installed = Installed(
        Row("stage", kind, package, "1.0", f"{package}.plugin", "unchecked"),
        component(kind, package, KindConfig, revision),
    )
    config = KindConfig(part=kind, kind=kind, **values)
    return StageNode(name, installed, config, parts, {"source": tuple(config.source)})


def corpus(digest: str = "d1", place: str = "/store/a", made_by: str = "corpus") -> Artifact:
    return Artifact("corpus", Path(place), digest, made_by)


def key(node: StageNode, *inputs: Artifact, identity: Mapping[str, Any] | None = None) -> Key:
    return action_key(node, {"source": list(inputs or (corpus(),))}, identity or {"seed": 0})


def test_what_changes_no_result_changes_no_key(packages):
    base = key(stage(part("clean", "a"), layout("clean")))
    same = {
        "the stage's name": key(stage(part("tidy", "a"), layout("tidy"), name="tidy")),
        "an execution field": key(stage(part("clean", "a", cache="there"), layout("clean"), workers=7)),
        "an execution field within": key(stage(part("clean", "a", inner=Inner(threads=9)), layout("clean"))),
        "an execution slot": key(stage(part("clean", "a"))),
        "its package": key(stage(part("clean", "a"), layout("clean", package="key_kinds"))),
        "what the input stage is called": key(stage(part("clean", "a"), source=["other"]), corpus(made_by="other")),
        "where the store lies": key(stage(part("clean", "a")), corpus(place="/elsewhere")),
        "the names of stages, of which the identity tells": key(stage(part("clean", "a"), shares={"one": 0.5})),
        "the names in a slot, which are there for checks": key(stage(part("clean", "a"), filters={"a": None})),
    }
    assert {why: found.action for why, found in same.items()} == dict.fromkeys(same, base.action)
    one, other = ({"files": ["f"], "seed": 0}, {"seed": 0, "files": ["f"]})
    assert key(stage(), identity=one) == key(stage(), identity=other)


def test_what_changes_a_result_changes_the_key(packages):
    first, second = part("clean", "a"), part("clean", "b")
    keys = {
        "base": key(stage(first)),
        "a field of the stage": key(stage(first, size=2)),
        "the kind": key(stage(first, kind="other")),
        "a field of the part": key(stage(part("clean", "a", share=0.25))),
        "an enum of the part": key(stage(part("clean", "a", colour=Colour.blue))),
        "settings within": key(stage(part("clean", "a", inner=Inner(depth=3)))),
        "a list of the part": key(stage(part("clean", "a", words=["x"]))),
        "no part": key(stage()),
        "another part": key(stage(second)),
        "two parts": key(stage(first, second)),
        "their order": key(stage(second, first)),
        "the same part in another slot": key(stage(replace(first, slot="others.a"))),
        "the input's content": key(stage(first), corpus("d2")),
        "two inputs": key(stage(first), corpus("d1"), corpus("d2")),
        "their order, the other way": key(stage(first), corpus("d2"), corpus("d1")),
        "identity": key(stage(first), identity={"seed": 1}),
        "a file's digest": key(stage(first), identity={"seed": 0, "files": ["abc"]}),
    }
    assert len({found.action for found in keys.values()}) == len(keys)
    assert len({found.loose for found in keys.values()}) == len(keys)


def test_code_is_in_the_action_key_and_not_in_the_loose_one(packages):
    base = key(stage(part("clean", "a")))
    others = {
        "the part's revision": key(stage(part("clean", "a", revision=2))),
        "the kind's revision": key(stage(part("clean", "a"), revision=2)),
        "the part of another package": key(stage(part("clean", "a", package="key_second"))),
        "a kind of a third party": key(stage(part("clean", "a"), package="key_kinds")),
    }
    # key_first and key_second hold the same bytes: a moved implementation is the same code.
    assert others.pop("the part of another package").action == base.action
    (packages / "key_first/impl.py").write_text("A = 2\n")
    forget(packages)
    others["the part's code"] = key(stage(part("clean", "a")))
    assert others["the part's code"].parts != base.parts
    assert base.action not in {found.action for found in others.values()}
    assert {found.loose for found in others.values()} == {base.loose}


def test_a_third_partys_kind_changes_with_its_code_and_cores_own_by_revision_alone(packages):
    before = key(stage(package="key_kinds"))
    (packages / "key_kinds/impl.py").write_text("A = 2\n")
    forget(packages)
    after = key(stage(package="key_kinds"))
    assert after.action != before.action
    assert after.loose == before.loose


def test_the_key_names_the_packages_it_holds(packages):
    found = key(stage(part("clean", "a"), part("clean", "b", package="key_second"), layout("clean")))
    assert set(found.parts) == {"filters.a", "filters.b"}
    assert len(found.action) == len(found.loose) == 64


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (Colour.red, "r"),
        (Level.low, 1),
        ([Colour.red, (1, 2)], ["r", [1, 2]]),
        ({"b": 1, "a": None}, {"a": None, "b": 1}),
        ({2: "two", 10: "ten"}, {"10": "ten", "2": "two"}),
        ({"x", "y"}, ["x", "y"]),
        (frozenset({3, 1, 2}), [1, 2, 3]),
        (Path("a/b"), "a/b"),
        (Inner(depth=4, threads=8), {"depth": 4}),
        ([Inner()], [{"depth": 2}]),
        ("ünï", "ünï"),
    ],
)
def test_canonical_forms(value, same):
    assert canonical(value) == same


def test_an_enum_and_its_value_make_one_key_and_true_is_not_one(packages):
    assert key(stage(part("clean", "a", colour=Colour.red))) == key(stage(part("clean", "a", colour="r")))
    assert key(stage(size=True)).action != key(stage(size=1)).action


@given(st.floats(allow_nan=False))
def test_a_float_is_written_so_that_no_bit_is_lost(number):
    written = json.dumps(canonical(number))
    assert json.loads(written) == number
    assert written == json.dumps(canonical(float(written)))


def test_values_that_no_key_can_hold_are_refused():
    for value in (object(), b"bytes", 1j, print):
        with pytest.raises(TypeError, match="has no place in an action key"):
            canonical({"a": [value]})


def test_every_field_of_a_stage_is_either_in_the_key_or_declared_out_of_it(packages):
    """A field that is added to the config is in the key without anyone's doing."""
    wider = dataclasses.make_dataclass("Wider", [("extra", int, field(default=0))], bases=(KindConfig,))
    node = stage()
    values = {spec.name: getattr(node.config, spec.name) for spec in dataclasses.fields(node.config)}
    zero, one = (replace(node, config=wider(**values, extra=extra)) for extra in (0, 1))
    assert len({key(found).action for found in (node, zero, one)}) == 3


def test_a_key_is_the_same_in_every_process(packages):
    """Sets of strings come in another order in each process, as their hashes do."""
    code = "from lmgraft.keys import _digest; print(_digest({'s': {'a', 'b', 'c', 'd'}, 'f': 0.1}))"
    seen = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        seen.add(done.stdout)
    assert len(seen) == 1
