"""Parts that stand under a key of their own, so that a recipe can have several of one name.

Parts of which a recipe takes several come wrapped under their own names: ``data_source@corpus.sources=[files]`` gives
``corpus.sources.files``. Chosen for a key, as in ``data_source@corpus.sources.books=files``, a part stands at that key
itself. A config does not know where it will stand, the loader does.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from hydra.core.default_element import ResultDefault
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from lmgraft import table
from lmgraft.errors import Problem, UserError
from lmgraft.version import MANY, several

__all__ = ["one_for_each_key", "unwrapped"]


def unwrapped(loaded: ConfigResult, default: ResultDefault) -> ConfigResult:
    """The config, out of its part's name where it was chosen for a key; any other as it is."""
    seam, _ = _part(default)
    place = default.package or ""
    if seam not in MANY or several(seam, place):
        return loaded
    loaded = copy.copy(loaded)
    if isinstance(loaded.config, DictConfig):
        loaded.config = _bare(loaded.config, seam, place)
    return loaded


def one_for_each_key(defaults: Sequence[ResultDefault]) -> None:
    """A :class:`UserError` where two parts are chosen for one key."""
    chosen: dict[str, str] = {}
    for default in defaults:
        (seam, name), place = _part(default), default.package or ""
        if seam not in MANY or several(seam, place) or not table.select(seam, name):
            continue
        if chosen.setdefault(place, name) != name:
            cause = "a key holds one part, and a list goes where the list is"
            slot = place.rpartition(".")[0]
            remedy = f"{seam}@{place}: NAME chooses one; {seam}@{slot}: [{chosen[place]}, {name}] takes both"
            raise UserError(Problem(f"{chosen[place]} and {name} are both chosen for {place}", cause, remedy))


def _part(default: ResultDefault) -> tuple[str, str]:
    """(seam, name) of what may be a part, a variant's name with its part's."""
    # What the command line adds to an installed recipe, Hydra looks for below the recipe's own group.
    seam, _, name = (default.config_path or "").removeprefix("recipes/").partition("/")
    return seam, name


def _bare(cfg: DictConfig, seam: str, place: str) -> DictConfig:
    """The part at ``place`` itself, or there what a variant sets for it under its name."""
    found = OmegaConf.select(cfg, place)
    names = [str(name) for name in found if name != "defaults"] if isinstance(found, DictConfig) else []
    if len(names) != 1 or not table.select(seam, names[0]) or not isinstance(found[names[0]], DictConfig):
        return cfg
    bare = OmegaConf.create()
    OmegaConf.update(bare, place, found[names[0]], merge=False)
    return bare
