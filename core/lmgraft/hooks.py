"""What pluggy is asked: registering without a word to the user, faults in our words, notes for a plugin's author."""

from __future__ import annotations

import inspect
import re
import warnings
from types import MethodType
from typing import Any

import pluggy

from lmgraft import hookspecs, table
from lmgraft.hookspecs import LIFECYCLE, ArgumentDeprecated
from lmgraft.version import ADDED, place

__all__ = ["HEARD", "fault", "heard", "manager", "notes", "register", "stand_in"]

#: The hooks that a tracker may implement.
HEARD = tuple(f"lmgraft_{hook}" for hook in LIFECYCLE)


def manager() -> pluggy.PluginManager:
    """A plugin manager that knows the specifications."""
    plugins = pluggy.PluginManager("lmgraft")
    plugins.add_hookspecs(hookspecs)
    return plugins


def register(plugins: pluggy.PluginManager, plugin: object, name: str) -> None:
    """Registers a plugin whose every hook must be known; raises pluggy's ``PluginValidationError``.

    What a plugin uses that is deprecated is its author's affair: nothing is said here, even under ``python -W error``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ArgumentDeprecated)
        plugins.register(plugin, name=name)
        plugins.check_pending()


def heard(plugins: pluggy.PluginManager, plugin: object) -> bool:
    """Whether a registered tracker implements any hook of the lifecycle."""
    return any(caller.name in HEARD for caller in plugins.get_hookcallers(plugin) or [])


def stand_in(kind: type) -> object:
    """An object with the methods of a class, bound as an instance's would be: what pluggy can look at without building
    the class, whose constructor may want a network."""
    found = _StandIn()
    for name in dir(kind):
        method = inspect.getattr_static(kind, name, None)
        if name.startswith("__"):
            continue
        if inspect.isfunction(method):
            setattr(found, name, MethodType(method, found))
        elif isinstance(method, (classmethod, staticmethod)):
            setattr(found, name, getattr(kind, name))
    return found


class _StandIn:
    pass


def notes(plugin: object, api: int) -> list[str]:
    """What the author of a working plugin, whose parts say ``api``, should know of its hooks' arguments.

    Raises ``PluginValidationError`` where a hook or an argument is not known.
    """
    plugins = manager()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        plugins.register(plugin)
        plugins.check_pending()
    found = [str(one.message) for one in said if issubclass(one.category, ArgumentDeprecated)]
    for caller in plugins.get_hookcallers(plugin) or []:
        for implementation in caller.get_hookimpls():
            found += _of_arguments(caller, implementation, api)
    return found


def _of_arguments(caller: pluggy.HookCaller, implementation: pluggy.HookImpl, api: int) -> list[str]:
    known = caller.spec.argnames if caller.spec else ()
    found = []
    for added in ADDED:
        taken = (*implementation.argnames, *implementation.kwargnames)
        if added.hook == caller.name and added.argument in taken and api < added.since:
            came = f"came with API {added.since} of the {place(added.seam)}, and the part says api={api}"
            found.append(f"{caller.name}'s argument {added.argument} {came}; say api={added.since} in its Component")
    for name in implementation.kwargnames:
        if name in known:
            found.append(f"{caller.name}'s argument {name} has a default, and pluggy before 1.7 never fills such a one;"
                         " take the default away")  # fmt: skip
        else:
            found.append(f"{caller.name} has no argument {name}, so its default is all it ever holds; "
                         + (table.close(name, known) or f"it has {', '.join(known)}"))  # fmt: skip
    return found


def fault(error: pluggy.PluginValidationError) -> str:
    """What is wrong with a hook, without pluggy's object addresses: its name, or its arguments."""
    text = " ".join(str(error).split())
    unknown = re.match(r"unknown hook '(\w+)'", text)
    if unknown:
        hint = table.close(unknown[1], [name for name in vars(hookspecs) if name.startswith("lmgraft_")])
        return f"there is no hook {unknown[1]}" + (f"; {hint}" if hint else "")
    foreign = re.search(r"for hook '(\w+)'.*Argument\(s\) \{(.*?)\} are declared", text)
    specification: Any = getattr(hookspecs, foreign[1], None) if foreign else None
    if foreign is None or specification is None:
        return text
    names, known = re.findall(r"'(\w+)'", foreign[2]), list(inspect.signature(specification).parameters)
    hints = [hint for hint in (table.close(name, known) for name in sorted(names)) if hint]
    has = f"it has {', '.join(known) or 'none'}"
    return f"the hook {foreign[1]} has no argument {', '.join(sorted(names))}; {hints[0] if hints else has}"
