"""What a recipe sets for a part that the command line replaces, left out where the new part has no such setting.

``architecture@pretrain.architecture=mamba`` is how one part is swapped for another. The recipe still sets ``layers``
and ``kv_heads`` there, for the part it was written with; Hydra would refuse the whole for a key that nobody typed. A
key that the new part has too is kept, and one that was typed on the command line is never left out. So too with a stage
(``stage@pretrain=pretrained``), with the parts that the recipe chooses for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.default_element import ResultDefault
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from lmgraft.unwrapping import one_for_each_key, unwrapped
from lmgraft.version import DOORS, SEAMS

__all__ = ["Loader", "notes", "without"]

_left_out: ContextVar[tuple[str, ...]] = ContextVar("left_out", default=())
_NOTES = "_lmgraft_notes"


class Loader(ConfigLoaderImpl):
    """Hydra's loader, which unwraps parts that are chosen for a key, and composes again without a leftover that stood
    in the way."""

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        return unwrapped(super()._load_single_config(default, repo), default)

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        one_for_each_key(defaults)
        return super()._compose_config_from_defaults_list([one for one in defaults if not _is_left_out(one)], repo)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        chosen, typed = _chosen(overrides)
        dropped: list[str] = []
        while True:
            try:
                with _leaving_out(dropped):
                    cfg = super().load_configuration(
                        config_name, overrides, run_mode, from_shell, validate_sweep_overrides
                    )
            except Exception as error:
                key = _leftover(error, chosen)
                if key is None or key in dropped or key in typed:
                    raise
                dropped.append(key)
            else:
                cfg.__dict__[_NOTES] = list(_told(dropped, chosen))
                return cfg


def notes(cfg: DictConfig) -> list[str]:
    """What was left out of a composed config, a line for each part."""
    return list(cfg.__dict__.get(_NOTES, ()))


def without(content: Any, package: str | None) -> Any:
    """A file's content, as far as it stands at the root, less what is being left out."""
    if package not in (None, "_global_"):
        return content
    for key in _left_out.get():
        content = _less(content, key.split("."))
    return content


def _is_left_out(default: ResultDefault) -> bool:
    """A part that the recipe chooses for a slot of a stage that the command line replaces by a kind without it."""
    place = default.package or ""
    return any(place == key or place.startswith(f"{key}.") for key in _left_out.get())


def _less(content: Any, path: Sequence[str]) -> Any:
    if not isinstance(content, dict) or path[0] not in content:
        return content
    if len(path) == 1:
        return {key: value for key, value in content.items() if key != path[0]}
    return {**content, path[0]: _less(content[path[0]], path[1:])}


@contextmanager
def _leaving_out(keys: Sequence[str]) -> Iterator[None]:
    token = _left_out.set(tuple(keys))
    try:
        yield
    finally:
        _left_out.reset(token)


def _chosen(overrides: Sequence[str]) -> tuple[dict[str, str], set[str]]:
    """Place -> the part that the command line chooses for it; and the keys that it sets."""
    from lmgraft import grammar

    parsed = grammar.parse(overrides)
    groups = {item.package or item.key_or_group: item for item in parsed if item.key_or_group in (*SEAMS, *DOORS)}
    return {place: str(item.value()) for place, item in groups.items()}, {item.key_or_group for item in parsed}


def _leftover(error: BaseException, chosen: dict[str, str]) -> str | None:
    """The key of a chosen place that the part there does not have."""
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, (ConfigKeyError, ConfigAttributeError)) and isinstance(cause, OmegaConfBaseException):
            key = str(cause.full_key or "")
            if any(key.startswith(f"{place}.") for place in chosen):
                return key
    return None


def _told(dropped: Sequence[str], chosen: dict[str, str]) -> Iterator[str]:
    for place, part in chosen.items():
        words = [key.removeprefix(f"{place}.") for key in dropped if key.startswith(f"{place}.")]
        if words:
            yield f"{place}: {part} has no {', '.join(words)}; what the recipe sets there for another part is left out"
