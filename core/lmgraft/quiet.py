"""Loads Hydra's plugins without letting a foreign one speak or break out."""

from __future__ import annotations

import warnings
from functools import lru_cache

from lmgraft.errors import Problem, UserError

__all__ = ["quiet_hydra"]


@lru_cache(maxsize=1)
def quiet_hydra() -> None:
    """Hydra imports every module under ``hydra_plugins`` and survives an ImportError only.

    Its warnings about launchers that do not import are dropped: they matter to the recipe that selects one, which
    then gets an error of its own.
    """
    from hydra.core.plugins import Plugins

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            Plugins.instance()
    except Exception as error:
        cause = f"one raised {type(error).__name__}: {error}"
        raise UserError(
            Problem(
                "Hydra's plugins cannot be loaded", cause, "pip uninstall the launcher or sweeper that the error names"
            )
        ) from error
