"""The guarded registry over plugins that are wrong in every way a third party's plugin can be."""

from __future__ import annotations

import sys

import pytest
from lmgraft import version
from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import UserError
from lmgraft.registry import build, package_hash, registry, requirements
from lmgraft.table import rows, select
from third_party import Distribution, component, forget, module

IMPLEMENTATION = """
class Good:
    def __init__(self, config):
        self.size = config.size
"""


def parts(name: str, source: str, *names: str, seam: str = "filter", **more: object) -> Distribution:
    """A distribution ``name`` whose light module holds ``source`` and promises ``names``."""
    package = name.replace("-", "_")
    files = {f"{package}/__init__.py": "", f"{package}/plugin.py": source, f"{package}/impl.py": IMPLEMENTATION}
    promised = {seam: dict.fromkeys(names or (name,), f"{package}.plugin")}
    return Distribution(name, files, promised, **more)  # type: ignore[arg-type]


GOOD = parts("good", module("filter", component("good", "good.impl:Good")))


def refusal(name: str, seam: str = "filter", where: str = "corpus.filters") -> tuple[str, str, str]:
    with pytest.raises(UserError) as caught:
        registry().get(seam, name, where)
    (problem,) = caught.value.problems
    return problem.fact, problem.cause, problem.remedy


def plugins() -> list[str]:
    return [name for name, _ in registry()._plugins.list_name_plugin()]


def test_a_good_part_loads_once_and_is_built_with_its_config(site):
    site.install(GOOD)
    found = registry().get("filter", "good")
    assert found is registry().get("filter", "good")
    assert found.row.distribution == "good"
    assert plugins() == ["good:good.plugin"]
    assert "good.impl" not in sys.modules
    part = build(found.component, found.component.config(size=7))
    assert (type(part).__name__, part.size) == ("Good", 7)
    assert registry().state(found.row) == ("ok", "", "")


def test_loaded_imports_nothing(site):
    site.install(GOOD)
    assert registry().loaded("filter", "good") is None
    assert "good.plugin" not in sys.modules
    config = registry().get("filter", "good").component.config
    assert registry().loaded("filter", "good") is config


BAD = {
    "import error": (
        "import no_such_module_anywhere\n",
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
    ),
    "syntax error": ("def broken(:\n", "SyntaxError: invalid syntax"),
    "exit": ("raise SystemExit(3)\n", "importing bad.plugin raised SystemExit: 3"),
    "nothing to say": ("raise RuntimeError\n", "importing bad.plugin raised RuntimeError"),
    "no hook": (
        module("filter", component("bad")).replace("@hookimpl\ndef", "def"),
        "no @hookimpl function lmgraft_filter",
    ),
    "misspelt hook": (
        module("filter", component("bad"), hook="lmgraft_fliter"),
        "there is no hook lmgraft_fliter; did you mean lmgraft_filter?",
    ),
    "wrong arguments": (
        module("filter", component("bad")).replace("lmgraft_filter()", "lmgraft_filter(recipe)"),
        "the hook lmgraft_filter has no argument recipe; it has none",
    ),
    "hook raises": (module("filter", "1 / 0"), "its hook raised ZeroDivisionError: division by zero"),
    "hook exits": (module("filter", "exit(4)"), "its hook raised SystemExit: 4"),
    "unknown field of a newer version": (
        module("filter", component("bad", colour="red")),
        "its hook raised TypeError",
    ),
    "generator that raises": (
        module("filter").replace("return []", "yield 1 / 0"),
        "its hook raised ZeroDivisionError",
    ),
    "one component, no list": (
        module("filter", component("bad")).replace("return [Component", "return (Component").replace(")]", "))"),
        "its hook returned a Component, not a list",
    ),
    "nothing returned": (module("filter").replace("return []", "return None"), "that returns a list"),
    "strings": (module("filter", "'bad'"), "its hook returned str, not Component"),
    "another name": (module("filter", component("worse")), "promise bad and its hook returns worse"),
    "no names": (module("filter"), "promise bad and its hook returns nothing"),
    "one name twice": (module("filter", component("bad"), component("bad")), "its hook returns bad, bad"),
    "config of another kind": (
        module("filter", component("bad", config="dict")),
        "the config of bad does not derive from ComponentConfig",
    ),
    "config is an object": (
        module("filter", component("bad", config="Config()")),
        "the config of bad does not derive from ComponentConfig",
    ),
    "config is no dataclass": (
        module(
            "filter", component("bad", config="Plain"), before="class Plain(ComponentConfig):\n    share: float = 0.5"
        ),
        "the config of bad, Plain, is no dataclass",
    ),
    "config with a type that OmegaConf does not know": (
        module(
            "filter",
            component("bad", config="Odd"),
            before="""
                from typing import Literal

                @dataclass
                class Odd(ComponentConfig):
                    how: Literal["a", "b"] = "a"
            """,
        ),
        "the config of bad cannot be composed: ",
    ),
    "config whose default raises": (
        module(
            "filter",
            component("bad", config="Odd"),
            before="""
                @dataclass
                class Odd(ComponentConfig):
                    words: list[str] = field(default_factory=lambda: 1 / 0)
            """,
        ),
        "ZeroDivisionError",
    ),
    "a requirement that is a string": (
        module("filter", component("bad", requires="torch")),
        "requires of its Component is 'torch', of the wrong type",
    ),
    "a version that is a string": (
        module("filter", component("bad", api="1")),
        "api of its Component is '1', of the wrong type",
    ),
    "no target": (module("filter", component("bad", target=None)), "target of its Component is None"),  # type: ignore[arg-type]
    "requirement that does not parse": (
        module("filter", component("bad", requires=("torch >=> 2",))),
        "bad requires 'torch >=> 2', which is no valid requirement",
    ),
}


@pytest.mark.parametrize(("source", "cause"), BAD.values(), ids=list(BAD))
def test_what_does_not_load_is_said_and_rolled_back(site, source, cause):
    site.install(parts("bad", source, version="0.3"), GOOD)
    fact, said, remedy = refusal("bad")
    assert fact == "corpus.filters: filter 'bad' of bad 0.3 (bad.plugin) cannot be used"
    assert cause in said
    assert remedy
    assert plugins() == []
    state, again, _ = registry().state(select("filter", "bad")[0])
    assert (state, again) == ("broken", said)
    assert registry().loaded("filter", "bad") is None
    assert registry().get("filter", "good").component.name == "good"
    assert plugins() == ["good:good.plugin"]


def test_an_interrupt_while_a_plugin_is_imported_is_an_interrupt(site):
    site.install(parts("bad", "raise KeyboardInterrupt\n"))
    with pytest.raises(KeyboardInterrupt):
        registry().get("filter", "bad")


def test_a_misspelt_hook_beside_a_good_one_is_found_too(site):
    source = module("filter", component("bad")) + "\n\n@hookimpl\ndef lmgraft_tokeniser():\n    return []\n"
    site.install(parts("bad", source))
    assert "there is no hook lmgraft_tokeniser; did you mean lmgraft_tokenizer?" in refusal("bad")[1]


@pytest.mark.parametrize(
    ("api", "ours", "remedy"),
    [
        (5, "2 to 4", "pip install --upgrade lmgraft: other is"),
        (1, "2 to 4", "pip install --upgrade other: it is older"),
    ],
)
def test_another_version_of_the_seam_is_incompatible_and_who_is_behind_is_said(site, monkeypatch, api, ours, remedy):
    monkeypatch.setitem(version.SEAM_API, "filter", (2, 4))
    site.install(parts("other", module("filter", component("other", api=api))))
    _, cause, tried = refusal("other")
    assert cause == f"other speaks version {api} of the filter seam; this lmgraft speaks {ours}"
    assert tried.startswith(remedy)
    assert registry().state(select("filter", "other")[0]) == ("incompatible", cause, tried)
    assert plugins() == []


@pytest.mark.parametrize("api", [2, 3, 4])
def test_every_version_between_the_oldest_and_the_newest_is_spoken(site, monkeypatch, api):
    monkeypatch.setitem(version.SEAM_API, "filter", (2, 4))
    site.install(parts("other", module("filter", component("other", api=api))))
    assert registry().get("filter", "other").component.api == api


def test_of_a_part_of_another_version_nothing_else_is_found_fault_with(site):
    site.install(parts("other", module("filter", component("other", api=2, config="dict"))))
    assert "speaks version 2" in refusal("other")[1]


def test_what_metadata_excludes_is_not_imported(site):
    site.install(parts("future", GOOD.files["good/plugin.py"], requires=["lmgraft>=9"]))
    assert "it wants lmgraft>=9" in refusal("future")[1]
    assert "future.plugin" not in sys.modules


def test_a_name_of_two_distributions_is_an_error_that_names_both_and_imports_neither(site):
    site.install(GOOD, parts("better", GOOD.files["good/plugin.py"], "good", version="2.0"))
    fact, _, remedy = refusal("good")
    assert fact == "corpus.filters: filter 'good' is provided by better 2.0 and by good 1.0"
    assert remedy == "pip uninstall good (or the other one)"
    assert not {"good.plugin", "better.plugin"} & set(sys.modules)


def test_a_clashing_name_does_not_slip_in_with_its_neighbour(site):
    """One module offers ``mine`` and ``good``; ``good`` clashes. Loading ``mine`` must not make ``good`` usable."""
    both = parts("both", module("filter", component("mine"), component("good")), "mine", "good")
    site.install(GOOD, both)
    assert registry().get("filter", "mine").component.name == "mine"
    assert "is provided by both 1.0 and by good 1.0" in refusal("good")[0]
    assert registry().loaded("filter", "good") is None


def test_one_module_may_serve_two_seams_and_fail_at_one_of_them(site):
    source = module("filter", component("two")) + "\n\n@hookimpl\ndef lmgraft_schedule():\n    return [1]\n"
    two = parts("two", source)
    site.install(Distribution("two", two.files, {**two.parts, "schedule": {"two": "two.plugin"}}))
    assert registry().get("filter", "two").component.name == "two"
    assert "its hook returned int" in refusal("two", "schedule")[1]
    assert registry().get("filter", "two").component.name == "two"


def test_a_kind_of_stage_has_settings_of_a_stage(site):
    site.install(parts("kind", module("stage", component("kind")), seam="stage"))
    assert "does not derive from StageConfig" in refusal("kind", "stage")[1]


def test_an_unknown_name_gets_a_guess_or_the_seam_it_belongs_to(site):
    site.install(GOOD)
    assert refusal("goood")[2] == "did you mean good?"
    fact, cause, remedy = refusal("good", "schedule", "pretrain.schedule")
    assert fact == "pretrain.schedule: there is no schedule named 'good'"
    assert "good is a filter" in cause
    assert "lmgraft plugins list" in remedy


def test_what_a_plugin_prints_at_import_does_not_reach_stdout(site, capsys):
    site.install(parts("noisy", module("filter", component("noisy"), before="print('hello from noisy')")))
    registry().get("filter", "noisy")
    out, err = capsys.readouterr()
    assert out == ""
    assert "hello from noisy" in err


def test_state_tries_the_requirements_and_the_implementation(site):
    source = module(
        "filter", component("needy", "needy.impl:Good", requires=("no-such-dist>=1", "numpy>=1")),
        component("lost", "needy.impl:Lost"), component("exits", "needy.exits:Exits"),
    )  # fmt: skip
    needy = parts("needy", source, "needy", "lost", "exits")
    site.install(Distribution("needy", {**needy.files, "needy/exits.py": "raise SystemExit(1)"}, needy.parts))
    states = {row.name: registry().state(row) for row in rows() if row.distribution == "needy"}
    assert states["needy"] == (
        "broken", "it needs no-such-dist>=1: not installed, or not in that version", "pip install 'no-such-dist>=1'",
    )  # fmt: skip
    assert "needy.impl has no Lost" in states["lost"][1]
    assert "importing needy.exits:Exits raised SystemExit" in states["exits"][1]


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("no_such_package.impl:Good", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("good.impl:Absent", "good.impl has no Absent"),
        ("good.impl", "good.impl has no name after the colon"),
        ("good.torn:Good", "SyntaxError"),
    ],
)
def test_an_implementation_that_does_not_import_is_the_users_to_see(site, target, cause):
    site.install(Distribution("good", {**GOOD.files, "good/torn.py": "class Good(:"}, GOOD.parts))
    with pytest.raises(UserError) as caught:
        build(Component(name="good", target=target, config=ComponentConfig, summary=""), ComponentConfig())
    assert cause in caught.value.problems[0].cause
    assert caught.value.problems[0].fact == f"good: its implementation {target} cannot be used"


def test_requirements_are_found_before_the_target_is_imported(site):
    wanted = ("no-such-dist", 'also-absent; python_version < "3"', "pluggy>=99", "packaging")
    absent = Component(name="x", target="nowhere:X", config=ComponentConfig, summary="", requires=wanted)
    (problem,) = requirements(absent, "corpus.filters.x")
    assert problem.fact == "corpus.filters.x: x needs no-such-dist, pluggy>=99"
    assert problem.remedy == "pip install no-such-dist 'pluggy>=99'"
    with pytest.raises(UserError, match="no-such-dist"):
        build(absent, ComponentConfig())
    assert requirements(Component(name="x", target="nowhere:X", config=ComponentConfig, summary=""), "x") == []


def test_the_hash_of_a_package_is_over_every_source_file_and_nothing_else(site):
    site.install(GOOD)
    seen = [package_hash("good")]

    def again() -> str:
        package_hash.cache_clear()
        return package_hash("good")

    (site.folder / "good/__pycache__").mkdir()
    (site.folder / "good/__pycache__/impl.cpython-311.pyc").write_bytes(b"x")
    (site.folder / "good/__pycache__/impl.cpython-311.pyc.140236").write_bytes(b"what a killed import leaves")
    (site.folder / "good/old.pyc").write_bytes(b"x")
    assert again() == seen[0]
    for change in (
        lambda: (site.folder / "good/impl.py").write_text(IMPLEMENTATION + "# one more line\n"),
        lambda: (site.folder / "good/impl.py").rename(site.folder / "good/other.py"),
        lambda: (site.folder / "good/words.txt").write_text("a list that the code reads"),
        lambda: (site.folder / "good/plugin.py").unlink(),
    ):
        change()
        seen.append(again())
    assert len(set(seen)) == len(seen)


def test_the_hash_of_a_single_module_is_the_files_own(site):
    site.install(Distribution("lone", {"lone.py": "VALUE = 1\n"}))
    before = package_hash("lone")
    (site.folder / "lone.py").write_text("VALUE = 2\n")
    forget(site.folder)
    assert package_hash("lone") != before
    with pytest.raises(UserError, match="the package lonesome is gone"):
        package_hash("lonesome")
