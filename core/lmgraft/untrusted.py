"""What a recipe file may hold. A recipe may come from a stranger, so it composes installed parts and nothing else.

Everything here binds *files*; the command line is its user's own. A file is read by our own config source and judged
here before Hydra sees it, so nothing in it is instantiated, resolved or imported first. Refused are

- keys that Hydra's ``instantiate`` acts on (``_target_`` and its kin) and YAML tags that make objects,
- the ``hydra`` node but for sweep parameters and the plain fields of a launcher or sweeper,
- every group under ``hydra/`` but ``hydra/launcher`` and ``hydra/sweeper``, and packages that lead into ``hydra``,
- resolvers of any kind (``${oc.env:KEY}`` would put a secret into the manifest); references to the recipe's own
  nodes stay,
- where the run and the store lie, names that leave the recipe's folder, and files too large or too deep.

Names and packages are held to a plain alphabet instead of being searched for what is known to be bad: Hydra computes
packages by gluing text (``_global_`` anywhere in a word resets, ``hy_group_`` takes the group's name in), reads keys in
brackets as dots, and joins an absolute name to a package's folder, which leaves it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lmgraft.errors import Problem

__all__ = ["MAX_BYTES", "included", "is_config_path", "is_group_path", "judge", "judge_override", "weigh"]

MAX_BYTES = 1 << 20
_MAX_NODES = 50_000
_MAX_DEPTH = 40
_MAX_REFERENCE = 1_000  # characters of a string that holds a reference; the grammar is slow

#: Keys that ``hydra.utils.instantiate`` gives a meaning to.
_INSTANTIATE = frozenset({"_target_", "_partial_", "_recursive_", "_convert_", "_args_"})
#: Root nodes that are none of a file's business.
_OWN = frozenset({"hydra", "run", "store"})

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
#: submitit writes words as lines of a shell script: no line breaks, no quotes, nothing that a shell expands.
_WORDS = re.compile(r"[\w .,:+=@%&|*()\[\]-]*")
_GROUPS = ("hydra/launcher", "hydra/sweeper")

_GROUP = re.compile(r"(?:\w[\w-]*/)*\w[\w-]*")
_CONFIG = re.compile(r"(?:\w[\w-]*/)*\w[\w.+-]*")
_PACKAGE = re.compile(r"\w[\w-]*(?:\.\w[\w-]*)*")
#: Words that Hydra acts on wherever they stand, within other words too.
_MAGIC = re.compile(r"_(?:global|group|here|name)_")
_KEYWORDS = re.compile(r"(?:(?:optional|override) +)*")


def is_group_path(path: str) -> bool:
    """A group's name as files may give it: plain words between slashes."""
    return _GROUP.fullmatch(path) is not None and not _MAGIC.search(path)


def is_config_path(path: str) -> bool:
    """A config's name likewise; its last word may hold dots, never lead with one."""
    return _CONFIG.fullmatch(path) is not None and not _MAGIC.search(path)


def _is_package(package: str) -> bool:
    """Plain words between dots, which ``_global_`` may lead; or ``_global_`` or ``_here_`` alone."""
    rest = package.removeprefix("_global_.")
    return package in ("_global_", "_here_") or (_PACKAGE.fullmatch(rest) is not None and not _MAGIC.search(rest))


def judge(content: Any, file: str, header: Mapping[str, str | None] | None = None) -> Iterator[Problem]:
    """Every problem of one file's content, as parsed by the safe YAML loader and before anything acts on it."""
    package = (header or {}).get("package")
    if package is not None:
        yield from _package(package, f"{file}: the header `# @package {package}`")
    if content is None:
        return
    if not isinstance(content, Mapping):
        yield _problem(file, f"its top level is a {type(content).__name__}", "write `key: value` lines")
        return
    yield from _walk(content, "", file)
    if "defaults" in content:
        yield from _defaults(content["defaults"], file)
    if "hydra" in content:
        yield from _hydra(content["hydra"], file)
    for key in ("run", "store"):
        if key in content and content[key] != {"dir": None}:  # conf/base.yaml declares them, unset
            cause = "a file may not choose where a run or the store lies"
            yield _problem(f"{file}: {key}", cause, f"give {key}.dir=PATH on the command line")


def weigh(node: Any, file: str) -> Iterator[Problem]:
    """A problem where a YAML node graph unfolds into too much; asked before any object is made of it.

    A few lines of aliases or merge keys unfold into billions of nodes, and an alias may hold itself. Each node of the
    graph is visited once.
    """
    weights: dict[int, tuple[float, float]] = {}

    def weight(node: Any) -> tuple[float, float]:
        """(nodes, depth) of what the node unfolds into."""
        if id(node) not in weights:
            weights[id(node)] = (float("inf"), float("inf"))  # met again before it is done: it holds itself
            value = node.value if isinstance(node.value, list) else []
            below = [weight(child) for item in value for child in (item if isinstance(item, tuple) else (item,))]
            weights[id(node)] = (1 + sum(n for n, _ in below), 1 + max((depth for _, depth in below), default=0))
        return weights[id(node)]

    nodes, depth = weight(node) if node is not None else (0, 0)
    if nodes > _MAX_NODES or depth > _MAX_DEPTH:
        yield _problem(file, "it unfolds into too many or too deep nodes", "take the YAML aliases out")


def judge_override(line: str, where: str) -> Iterator[Problem]:
    """The problems of an override that comes from a file: it must stay within the recipe's own nodes."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(line)
    except HydraException:
        yield _problem(where, "it does not parse as an override", "write `key: 1,2,3`")
        return
    key, package = override.key_or_group, override.package
    values = list(_texts(override._value))
    path = package if package is not None else key
    words = {word for name in (key, package or "") for word in re.split(r"[./]", name)}
    roots = {_root(path), re.split(r"[./]", key)[0]}
    if "hydra" in roots:
        yield _problem(where, "a sweep does not reach into Hydra's own node", "sweep over the recipe's keys")
    elif roots & _OWN:
        yield _problem(where, "a sweep does not move the run or the store", "give it on the command line")
    elif not key or _MAGIC.search(key) or (package is not None and not _is_package(package)):
        yield _problem(where, "it is no plain key", "write stage.key, or GROUP@WHERE with WHERE as in stage.slot")
    elif _INSTANTIATE & (words | set(values)):
        yield _problem(where, "it names code to call", "sweep over the recipe's keys")
    elif any(re.search(r"\$\\*\{", text) for text in (line, *values)):
        yield _problem(where, "a sweep takes plain values", "write the values out")
    elif ("." not in key or package is not None) and any(map(_leads_out, values)):
        yield _problem(where, "it leads out of the recipe's folder", "name an installed part or a config beside it")


def _problem(fact: str, cause: str, remedy: str) -> Problem:
    return Problem(f"{fact} is refused in a recipe file", cause, remedy)


# --- values ---------------------------------------------------------------------------------------------------------


def _walk(node: Any, path: str, file: str) -> Iterator[Problem]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            here = f"{path}.{key}" if path else str(key)
            yield from _key(key, here, file)
            yield from _walk(value, here, file)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _walk(value, f"{path}[{index}]", file)
    elif isinstance(node, str):
        yield from _string(node, path, file)
    elif not isinstance(node, (int, float, bool, type(None))):
        # OmegaConf knows pathlib's tags: such a path turns into a string where one is wanted, and is then resolved.
        cause = f"its tag makes a {type(node).__name__}, and a recipe holds text, numbers, lists and mappings"
        yield _problem(f"{file}: {path}", cause, "take the YAML tag out")


def _key(key: Any, here: str, file: str) -> Iterator[Problem]:
    if key in _INSTANTIATE:
        cause = "it names code to call, and a recipe names installed parts only"
        yield _problem(f"{file}: {here}", cause, "choose a part by name: SEAM@WHERE=NAME; lmgraft plugins list")
    elif isinstance(key, str) and "${" in key:
        yield _problem(f"{file}: {here}", "a key is never computed", "write the key out")
    elif not isinstance(key, (str, int, float, bool)):
        yield _problem(f"{file}: {here}", f"a key that is a {type(key).__name__}", "write the key as a plain word")


def _string(value: str, path: str, file: str) -> Iterator[Problem]:
    if "${" not in value:
        return
    # An escaped interpolation is text once it has been resolved, and an interpolation again where that text is reused.
    spellings = {value, re.sub(r"\\+\$\{", "${", value)}
    cause = next(filter(None, map(_interpolation, sorted(spellings))), "")
    if cause:
        yield _problem(f"{file}: {path}", cause, "write the value out, or give it on the command line")


def _interpolation(value: str) -> str:
    """What is wrong with the interpolations of a string, by OmegaConf's own grammar; ``""`` where nothing is."""
    from omegaconf import grammar_parser
    from omegaconf.errors import GrammarParseError

    if len(value) > _MAX_REFERENCE:
        return f"it is text of {len(value)} characters with a reference inside; at most {_MAX_REFERENCE} are taken"
    try:
        stack: list[Any] = [grammar_parser.parse(value)]
    except (GrammarParseError, RecursionError):
        return f"`{value[:60]}` does not parse"
    while stack:
        node = stack.pop()
        kind = type(node).__name__
        if kind == "InterpolationResolverContext":
            shown = node.getText()[:60]
            return f"`{shown}` is a resolver, which can read the environment or call code; only references are taken"
        if kind == "InterpolationNodeContext":
            inside = node.getText()[2:-1]
            if "${" in inside:
                return f"`{value[:60]}` computes the name that it refers to"
            if next(filter(None, re.split(r"[.\[\]\s]+", inside)), "") == "hydra":
                return f"`{value[:60]}` refers to Hydra's own node, which says where things lie on this machine"
        stack.extend(getattr(node, "children", None) or ())
    return ""


# --- the defaults list ----------------------------------------------------------------------------------------------


def _defaults(defaults: Any, file: str) -> Iterator[Problem]:
    if defaults is None:
        return
    if not isinstance(defaults, list):
        yield _problem(f"{file}: defaults", "it is no list", "write one `- entry` a line")
        return
    for entry in defaults:
        if isinstance(entry, str):
            name, at, package = entry.partition("@")
            yield from _named(name, package if at else None, f"{file}: defaults: {entry}", group=False)
        elif isinstance(entry, Mapping) and len(entry) == 1 and isinstance(next(iter(entry)), str):
            ((group, choice),) = entry.items()
            yield from _chosen(group, choice, f"{file}: defaults: {group}")
        else:
            remedy = "write `- CONFIG`, `- GROUP@WHERE: NAME` or `- GROUP@WHERE: [NAME, NAME]`"
            yield _problem(f"{file}: defaults: {str(entry)[:60]}", "it is no entry of a defaults list", remedy)


def included(content: Any, group: str) -> Iterator[str]:
    """The configs that a judged file's defaults list names, as paths from the root; ``group`` is the file's own."""
    for entry in (content or {}).get("defaults") or ():
        if isinstance(entry, str):
            yield _below(group, entry.partition("@")[0])
            continue
        ((key, choice),) = entry.items()
        path = _below(group, key.split(" ")[-1].partition("@")[0])
        yield from (f"{path}/{name}" for name in (choice if isinstance(choice, list) else [choice]) if name)


def _below(group: str, name: str) -> str:
    return name[1:] if name.startswith("/") else f"{group}/{name}".lstrip("/")


def _chosen(entry: str, choice: Any, where: str) -> Iterator[Problem]:
    group, at, package = entry[_KEYWORDS.match(entry).end() :].partition("@")  # type: ignore[union-attr]
    yield from _named(group, package if at else None, where, group=True)
    for name in choice if isinstance(choice, list) else [choice]:
        if name is None or (isinstance(name, str) and (name == "???" or is_config_path(name))):
            continue
        cause = f"{str(name)[:60]!r} is no plain name, or it leads out of the recipe's folder"
        yield _problem(where, cause, "name an installed part, or a config beside the recipe")


def _named(name: str, package: str | None, where: str, *, group: bool) -> Iterator[Problem]:
    """A group or config of a defaults list, and the package that it is put into: that given, or else its folders."""
    path = name.removeprefix("/")
    folders = path if group else path.rpartition("/")[0]
    if not (is_group_path(path) if group else is_config_path(path)):
        cause = f"{name[:60]!r} is no plain name, or it leads out of the recipe's folder"
        yield _problem(where, cause, "name an installed group, or a config beside the recipe")
    elif path.split("/")[0] == "hydra" and not (group and path in _GROUPS and package is None):
        cause = "of Hydra's own groups a recipe chooses only hydra/launcher and hydra/sweeper"
        yield _problem(where, cause, "choose it on the command line")
    elif folders.split("/")[0] in ("run", "store"):
        yield _problem(where, "a group of that name sets where things lie", "give the folder another name")
    elif package is not None:
        yield from _package(package, where)


def _package(package: str, where: str) -> Iterator[Problem]:
    if not _is_package(package):
        cause = f"the package {package[:60]!r} is no plain path of keys"
        yield _problem(where, cause, "write it as in stage.slot; _global_ may lead it")
    elif _root(package) in _OWN:
        cause = f"it puts a config into {_root(package)}, which is not a recipe's to set"
        yield _problem(where, cause, "give the values on the command line, which is your own")


def _root(package: str) -> str:
    """The root key that a package or an override's key leads to."""
    return package.removeprefix("_global_").removeprefix(".").split(".")[0].split("/")[0]


# --- Hydra's own node -----------------------------------------------------------------------------------------------


def _hydra(node: Any, file: str) -> Iterator[Problem]:
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
        elif isinstance(value, (Mapping, list)) or (isinstance(value, str) and not _WORDS.fullmatch(value)):
            yield _problem(where, "it is a plain field and takes one value", "write a number or plain words")


def _params(params: Any, where: str) -> Iterator[Problem]:
    """Sweep parameters become override strings, so each must be an override of the recipe itself."""
    if not isinstance(params, Mapping):
        yield _problem(where, "it is no mapping", "write `key: 1,2,3` lines")
        return
    for key, value in params.items():
        if isinstance(key, str) and isinstance(value, (str, int, float)):
            yield from judge_override(f"{key}={value}", f"{where}.{key}")
        else:
            yield _problem(f"{where}.{key}", "it is no key with values", "write `key: 1,2,3`")


def _texts(value: Any) -> Iterator[str]:
    """Every piece of text in a parsed override's value, un-escaped as Hydra will."""
    from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString

    if isinstance(value, QuotedString):
        yield value.text
    elif isinstance(value, str):
        yield value
    elif isinstance(value, ChoiceSweep):
        yield from _texts(value.list)
    elif isinstance(value, Glob):
        yield from _texts([*value.include, *value.exclude])
    elif isinstance(value, dict):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _leads_out(choice: str) -> bool:
    return "\\" in choice or any(word in ("", ".", "..") for word in choice.split("/")) or choice.startswith("~")
