"""Hydra config sources: ``lmgraft://`` (parts, recipes, conf/) and ``lmgraft-file://`` (one recipe given by path).

The only module that touches Hydra's plugin API. Hydra imports it at start-up, so it imports nothing heavy: names come
from metadata, and a light module is imported only when its part is selected. Hydra expects no ``__init__`` in
``hydra_plugins``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from lmgraft import configs
from lmgraft.version import MANY
from omegaconf import OmegaConf

__all__ = ["InstalledSource", "RecipeFileSource"]


class _Source(ConfigSource):
    """What both have in common: a catalogue answers, this class speaks Hydra."""

    catalogue: configs.Catalogue

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return self.catalogue.is_group(_plain(config_path))

    def is_config(self, config_path: str) -> bool:
        return self.catalogue.is_config(_plain(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        groups, names = self.catalogue.children(_plain(config_path))
        if results_filter == ObjectType.GROUP:
            return sorted(groups)
        if results_filter == ObjectType.CONFIG:
            return sorted(names)
        return sorted(groups | names)

    def load_config(self, config_path: str) -> ConfigResult:
        found = self.catalogue.load(_plain(config_path))
        if found is None:
            raise ConfigLoadError(f"Config not found : {config_path}")
        return ConfigResult(
            provider=self.provider,
            path=found.origin,
            config=_container(found),
            # Hydra reads header["package"] without asking whether it is there.
            header={"package": found.package},
        )


class InstalledSource(_Source):
    """Everything that is installed: recipes as ``recipes/NAME``, conf/ at the root, parts as ``SEAM/NAME``."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider=provider, path=path)
        self.catalogue = configs.InstalledCatalogue()

    @staticmethod
    def scheme() -> str:
        return "lmgraft"


class RecipeFileSource(_Source):
    """One recipe file of the user's, and the configs in its folder."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider=provider, path=path)
        self.catalogue = configs.FolderCatalogue(Path(self.path))

    @staticmethod
    def scheme() -> str:
        return "lmgraft-file"


def _plain(path: str) -> str:
    return path.removesuffix(".yaml").removesuffix(".yml").strip("/")


def _container(found: configs.Found) -> Any:
    if found.part is None:
        return OmegaConf.create(found.content or {})
    seam, name, config = found.part
    node = OmegaConf.structured(config)
    node["part"] = name
    if seam == "stage":
        node["kind"] = name
    return OmegaConf.create({name: node}) if seam in MANY else node
