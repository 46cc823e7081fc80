"""What a recipe file may hold. A recipe may come from a stranger, so it composes installed parts and nothing else.

Everything here binds *files*; the command line is its user's own. A file is read by our own config source and judged
here before Hydra sees it, so nothing in it is instantiated, resolved or imported first. Refused are

- keys that Hydra's ``instantiate`` acts on (``_target_`` and its kin) and dotted paths in their place,
- the ``hydra`` node but for sweep parameters and the plain fields of a launcher or sweeper,
- every group under ``hydra/`` but ``hydra/launcher`` and ``hydra/sweeper``, and packages that lead into ``hydra``,
- resolvers of any kind (``${oc.env:KEY}`` would put a secret into the manifest); node references stay,
- where the run and the store lie, names that leave the recipe's folder, and files too large or too deep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lmgraft.errors import Problem

__all__ = ["MAX_BYTES", "judge"]

MAX_BYTES = 1 << 20
_MAX_NODES = 50_000
_MAX_DEPTH = 40

#: Keys that ``hydra.utils.instantiate`` gives a meaning to.
_INSTANTIATE = frozenset({"_target_", "_partial_", "_recursive_", "_convert_", "_args_"})

#: Plain fields of launchers and sweepers. Left out on purpose: what ends up in a shell (submitit's ``setup``,
#: ``srun_args``, ``python``), what is evaluated (joblib's ``pre_dispatch``) or imported (optuna's
#: ``custom_search_space``), and everything nested.
_LAUNCHER = frozenset({
    "n_jobs", "backend", "prefer", "require", "verbose", "timeout", "batch_size", "max_nbytes",
    "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name", "partition",
    "array_parallelism", "max_num_timeout", "gpus_per_task", "mem_per_gpu", "mem_per_cpu", "account", "qos",
    "constraint",
})  # fmt: skip
_SWEEPER = frozenset({"params", "max_batch_size", "n_trials", "n_jobs", "direction", "study_name", "max_failure_rate"})
_GROUPS = ("hydra/launcher", "hydra/sweeper")


def judge(content: Any, file: str, header: Mapping[str, str | None] | None = None, text: str = "") -> Iterator[Problem]:
    """Every problem of one file's content, as parsed by the safe YAML loader and before anything acts on it."""
    if len(text) > MAX_BYTES:
        yield _problem(file, "the file is over 1 MiB", "a recipe is a few kilobytes; keep data elsewhere")
        return
    package = (header or {}).get("package") or ""
    if _leads_to_hydra(package):
        yield _problem(file, f"its header puts it into the package {package}", "take the `# @package` line out")
    if content is None:
        return
    if not isinstance(content, Mapping):
        yield _problem(file, f"its top level is a {type(content).__name__}", "write `key: value` lines")
        return
    counted: list[int] = [0]
    yield from _walk(content, "", file, counted, 0)
    yield from _defaults(content.get("defaults"), file)
    yield from _hydra(content.get("hydra"), file)
    for key in ("run", "store"):
        if key in content and content[key] != {"dir": None}:  # conf/base.yaml declares them, unset
            cause = "a file may not choose where a run or the store lies"
            yield _problem(f"{file}: {key}", cause, f"give {key}.dir=PATH on the command line")


def _problem(fact: str, cause: str, remedy: str) -> Problem:
    return Problem(f"{fact} is refused in a recipe file", cause, remedy)


def _walk(node: Any, path: str, file: str, counted: list[int], depth: int) -> Iterator[Problem]:
    counted[0] += 1
    if counted[0] > _MAX_NODES or depth > _MAX_DEPTH:
        if counted[0] != 1 << 40:  # said once: aliases can unfold into billions of nodes
            counted[0] = 1 << 40
            yield _problem(f"{file}: {path}", "it unfolds into too many or too deep nodes", "take the YAML aliases out")
        return
    if isinstance(node, Mapping):
        for key, value in node.items():
            here = f"{path}.{key}" if path else str(key)
            yield from _key(key, here, file)
            yield from _walk(value, here, file, counted, depth + 1)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _walk(value, f"{path}[{index}]", file, counted, depth + 1)
    elif isinstance(node, str):
        yield from _string(node, path, file)


def _key(key: Any, here: str, file: str) -> Iterator[Problem]:
    if key in _INSTANTIATE:
        cause = "it names code to call, and a recipe names installed parts only"
        yield _problem(f"{file}: {here}", cause, "choose a part by name: SEAM@WHERE=NAME; lmgraft plugins list")
    elif isinstance(key, str) and "${" in key:
        yield _problem(f"{file}: {here}", "a key is never computed", "write the key out")


def _string(value: str, path: str, file: str) -> Iterator[Problem]:
    if "${" not in value:
        return
    resolver = _resolver(value)
    if resolver:
        cause = f"{resolver} is a resolver, which can read the environment or call code; only references are taken"
        yield _problem(f"{file}: {path}", cause, "write the value out, or give it on the command line")


def _resolver(value: str) -> str:
    """The first resolver call in a string, by OmegaConf's own grammar; ``""`` where there is none."""
    from omegaconf import grammar_parser
    from omegaconf.errors import GrammarParseError

    try:
        tree = grammar_parser.parse(value)
    except GrammarParseError:
        return f"`{value[:60]}`, which does not parse,"
    stack: list[Any] = [tree]
    while stack:
        node = stack.pop()
        if type(node).__name__ == "InterpolationResolverContext":
            return f"`{node.getText()[:60]}`"
        stack.extend(getattr(node, "children", None) or ())
    return ""


def _leads_to_hydra(package: str) -> bool:
    """Does a package, after ``_global_`` and the like, begin with ``hydra``? Computed packages count as yes."""
    if "${" in package:
        return True
    parts = [part for part in package.split(".") if part not in ("_global_", "_here_", "_group_", "_name_", "")]
    return (bool(parts) and parts[0] == "hydra") or any(part.startswith("hydra") for part in parts[:1])


def _defaults(defaults: Any, file: str) -> Iterator[Problem]:
    if defaults is None:
        return
    if not isinstance(defaults, list):
        yield _problem(f"{file}: defaults", "it is no list", "write one `- entry` a line")
        return
    for entry in defaults:
        names = [entry] if isinstance(entry, str) else list(entry.items()) if isinstance(entry, Mapping) else []
        for name in names:
            group, choice = (name, "") if isinstance(name, str) else name
            yield from _default(str(group), choice, file)


def _default(group: str, choice: Any, file: str) -> Iterator[Problem]:
    bare = re.sub(r"^((optional|override)\s+)+", "", group.strip())
    path, _, package = bare.partition("@")
    path = path.strip().lstrip("/")
    where = f"{file}: defaults: {group}"
    if _leads_to_hydra(package.strip()):
        yield _problem(where, f"it puts a config into the package {package}", "leave Hydra's own node alone")
    if path.split("/")[0].startswith("hydra") and path not in _GROUPS:
        cause = "of Hydra's own groups a recipe chooses only hydra/launcher and hydra/sweeper"
        yield _problem(where, cause, "choose it on the command line")
    choices = choice if isinstance(choice, list) else [choice]
    for name in [path, *choices]:
        if ".." in str(name).split("/") or str(name).startswith("~") or "://" in str(name) or "\\" in str(name):
            yield _problem(where, f"{name!r} leads out of the recipe's folder", "name a config beside the recipe")


def _hydra(node: Any, file: str) -> Iterator[Problem]:
    if node is None:
        return
    if not isinstance(node, Mapping):
        yield _problem(f"{file}: hydra", "it is no mapping", "write hydra.sweeper.params as a mapping")
        return
    for key, value in node.items():
        allowed = {"launcher": _LAUNCHER, "sweeper": _SWEEPER}.get(str(key))
        if allowed is None or not isinstance(value, Mapping):
            cause = "of the hydra node a recipe sets only sweep parameters and plain fields of a launcher or sweeper"
            yield _problem(f"{file}: hydra.{key}", cause, f"give hydra.{key} on the command line, which is your own")
            continue
        yield from _fields(str(key), value, allowed, file)


def _fields(key: str, node: Mapping[Any, Any], allowed: frozenset[str], file: str) -> Iterator[Problem]:
    for name, value in node.items():
        where = f"{file}: hydra.{key}.{name}"
        if name not in allowed:
            cause = f"it is not among the plain fields ({', '.join(sorted(allowed))})"
            yield _problem(where, cause, f"give hydra.{key}.{name} on the command line, which is your own")
        elif name == "params":
            yield from _params(value, where)
        elif isinstance(value, (Mapping, list)):
            yield _problem(where, "it is a plain field and takes one value", "write a number or a word")


def _params(params: Any, where: str) -> Iterator[Problem]:
    """Sweep parameters become override strings, so each must be an override of the recipe itself."""
    if not isinstance(params, Mapping):
        yield _problem(where, "it is no mapping", "write `key: 1,2,3` lines")
        return
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for key, value in params.items():
        line = f"{key}={value}"
        try:
            override = parser.parse_override(line)
        except HydraException:
            yield _problem(f"{where}.{key}", "it does not parse as an override", "write `key: 1,2,3`")
            continue
        names = (override.key_or_group or "", override.package or "")
        roots = {re.split(r"[./]", name)[0] for name in names}
        if override.is_hydra_override() or any(_leads_to_hydra(name) or name.startswith("hydra") for name in names):
            yield _problem(
                f"{where}.{key}", "a sweep does not reach into Hydra's own node", "sweep over the recipe's keys"
            )
        elif roots & {"run", "store"}:
            yield _problem(
                f"{where}.{key}", "a sweep does not move the run or the store", "give it on the command line"
            )
        elif _INSTANTIATE & set(re.split(r"[./@]", " ".join(names).replace(" ", "."))):
            yield _problem(f"{where}.{key}", "it names code to call", "sweep over the recipe's keys")
        elif "${" in line:
            yield _problem(f"{where}.{key}", "a sweep takes plain values", "write the values out")
