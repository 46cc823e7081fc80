"""pluggy over plugins of several ages: nothing is said to users, everything to authors."""

from __future__ import annotations

import inspect
import warnings

import pluggy
import pytest
from lmgraft import hooks, hookspecs, version
from lmgraft.hookspecs import hookimpl

STATUS = (
    "lmgraft_stage_end's argument status is deprecated since API 2 of the lifecycle door and goes with API 3;"
    " take outcome.status"
)


class Old:
    @hookimpl
    def lmgraft_stage_end(self, stage, status):
        self.heard = (stage, status)


class New:
    @hookimpl
    def lmgraft_stage_end(self, stage, outcome):
        self.heard = (stage, outcome)


def test_registering_what_is_deprecated_says_nothing_even_where_warnings_are_errors():
    plugins, old = hooks.manager(), Old()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hooks.register(plugins, old, "old")
    plugins.hook.lmgraft_stage_end(run=None, stage="corpus", status="ran", outcome=None)
    assert old.heard == ("corpus", "ran")


def test_the_same_is_a_note_for_the_author():
    assert hooks.notes(Old(), 1) == [STATUS]
    assert hooks.notes(Old(), 2) == [STATUS]
    assert hooks.notes(New(), 2) == []


def test_an_argument_that_is_newer_than_the_part_says_is_a_note():
    (note,) = hooks.notes(New(), 1)
    assert note == (
        "lmgraft_stage_end's argument outcome came with API 2 of the lifecycle door, and the part says api=1;"
        " say api=2 in its Component"
    )


def test_an_argument_with_a_default_is_a_note():
    class Defaults:
        @hookimpl
        def lmgraft_stage_end(self, stage, outcome=None, statsu="ran"):
            raise AssertionError

    filled, unknown = hooks.notes(Defaults(), 2)
    assert "argument outcome has a default, and pluggy before 1.7 never fills such a one" in filled
    assert unknown == (
        "lmgraft_stage_end has no argument statsu, so its default is all it ever holds; did you mean status?"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("stage, statsu", "the hook lmgraft_stage_end has no argument statsu; did you mean status?"),
        ("stage, other", "the hook lmgraft_stage_end has no argument other; it has run, stage, status, outcome"),
        ("zz, other", "the hook lmgraft_stage_end has no argument other, zz; it has run, stage, status, outcome"),
    ],
)
def test_an_argument_that_no_hook_has_is_said_in_our_words(arguments, said):
    space = {"hookimpl": hookimpl}
    exec(f"class Wrong:\n    @hookimpl\n    def lmgraft_stage_end(self, {arguments}): ...", space)
    for ask in (
        lambda: hooks.register(hooks.manager(), space["Wrong"](), "wrong"),
        lambda: hooks.notes(hooks.stand_in(space["Wrong"]), 2),
    ):
        with pytest.raises(pluggy.PluginValidationError) as caught:
            ask()
        assert hooks.fault(caught.value) == said


@hookimpl
def outside(me, run):
    raise AssertionError


class Odd:
    """What pluggy sees of an instance; its constructor and its properties must not run for that."""

    def __init__(self):
        raise AssertionError("a tracker is not built to be looked at")

    @property
    def client(self):
        raise AssertionError("nor asked for anything")

    @hookimpl
    def lmgraft_step(this, row):  # noqa: N805
        raise AssertionError

    @classmethod
    @hookimpl
    def lmgraft_stage_start(cls, stage):
        raise AssertionError

    @staticmethod
    @hookimpl
    def lmgraft_checkpoint(path):
        raise AssertionError

    lmgraft_run_start = outside


def test_a_class_is_looked_at_without_building_it():
    plugins, methods = hooks.manager(), hooks.stand_in(Odd)
    hooks.register(plugins, methods, "odd")
    assert hooks.heard(plugins, methods)
    found = {caller.name: caller.get_hookimpls()[0].argnames for caller in plugins.get_hookcallers(methods)}
    assert found == {
        "lmgraft_step": ("row",),
        "lmgraft_stage_start": ("stage",),
        "lmgraft_checkpoint": ("path",),
        "lmgraft_run_start": ("run",),
    }
    assert not hooks.heard(plugins, object())


def test_every_line_of_the_tables_is_true_of_the_specifications():
    for line in (*version.ADDED, *version.DEPRECATED):
        arguments = inspect.signature(getattr(hookspecs, line.hook)).parameters
        oldest, newest = version.SEAM_API[line.seam]
        assert line.argument in arguments
        assert line.since <= newest
        if isinstance(line, version.Deprecated):
            assert oldest < line.since < line.goes > newest


def test_one_line_deprecates_an_argument(monkeypatch):
    line = version.Deprecated("lifecycle", "lmgraft_step", "row", since=2, goes=3, remedy="take rows")
    monkeypatch.setattr(hookspecs, "DEPRECATED", (line,))

    class Specification:
        @hookspecs.hookspec
        def lmgraft_step(self, run, stage, row):
            raise AssertionError

    class Plugin:
        @hookimpl
        def lmgraft_step(self, row):
            raise AssertionError

    plugins = pluggy.PluginManager("lmgraft")
    plugins.add_hookspecs(Specification)
    with pytest.warns(hookspecs.ArgumentDeprecated, match="lmgraft_step's argument row is deprecated since API 2"):
        plugins.register(Plugin())
