"""What the families share in reading and writing the ``config.json`` of a transformers model.

Written so that transformers 4 (``rope_theta``, ``torch_dtype``) and 5 (``rope_parameters``, ``dtype``) both load it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lmgraft.component import ComponentConfig
from lmgraft.errors import Problem, UserError

__all__ = ["NORM_KEY", "Reader", "written"]

#: Not a key of transformers: only lmgraft can build these models without norms.
NORM_KEY = "lmgraft_norm"
#: No size is larger: what is, would end in an error of torch's.
LARGEST = 2**31 - 1

C = TypeVar("C", bound=ComponentConfig)


class Reader:
    """Reads the values of one ``config.json``. What is missing, damaged or not built becomes a problem of its own, and
    all of them are told at once, by :meth:`finish`; until then a stand-in takes the value's place."""

    def __init__(self, config: Mapping[str, Any], family: str) -> None:
        self.config = config
        self.family = family
        self.problems: list[Problem] = []

    def given(self, *names: str) -> tuple[str, Any]:
        """The first of these names that has a value, and that value; the first name and None where none has."""
        found = [(name, self.config[name]) for name in names if self.config.get(name) is not None]
        return found[0] if found else (names[0], None)

    def whole(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """A whole number; without ``default`` it must be there."""
        name, value = self.given(*names)
        if value is None:
            if default is None:
                cause = f"a {self.family} cannot be built without it"
                self.problem(f"config.json gives no {name}", cause)
            return least if default is None else default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
            self.problem(f"config.json sets {name} to {value!r}", f"it is a whole number from {least} on")
            return least
        return value

    def number(self, name: str, default: float, within: Mapping[str, Any] | None = None, zero: bool = False) -> float:
        """A number above 0 (or ``zero``), from the file or from an object ``within`` it."""
        value = (self.config if within is None else within).get(name)
        if value is None:
            return default
        real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not real or value < 0 or (value == 0 and not zero):
            cause = f"it is a number {'of at least' if zero else 'above'} 0"
            self.problem(f"config.json sets {name} to {value!r}", cause)
            return 1.0
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.config.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.problem(f"config.json sets {name} to {value!r}", "it is true or false")
            return default
        return value

    def one_of(self, name: str, *usual: Any) -> Any:
        """The value, which must be one of these; None, where the file is silent, is always taken."""
        value = self.config.get(name)
        if value is not None and not any(value == each and isinstance(value, type(each)) for each in usual):
            self.lacking(name, value)
            return None
        return value

    def norm(self, usual: str) -> str:
        """The word under :data:`NORM_KEY`."""
        return str(self.one_of(NORM_KEY, usual, "none") or usual)

    def lacking(self, name: str, value: Any) -> None:
        """A problem: a switch that is not built."""
        cause = f"the {self.family} architecture of lmgraft does not have that switch"
        remedy = f"use a checkpoint of {self.family} without it"
        self.problems.append(Problem(f"config.json sets {name} to {value}", cause, remedy))

    def problem(self, fact: str, cause: str) -> None:
        self.problems.append(Problem(fact, cause, "take config.json from where the weights came from"))

    def finish(self, make: Callable[[], C]) -> C:
        """The settings, where nothing was wrong and they can be.

        :raises UserError: every problem there was.
        """
        self.whole("vocab_size")  # core's to read, and told with the rest
        if not self.problems:
            made = make()
            for cause in made.check():
                self.problem(f"config.json describes no {self.family} that can be", str(cause))
        if self.problems:
            raise UserError(self.problems)
        return made


def written(model_type: str, class_name: str, vocab_size: int, norm: str = "", **values: Any) -> dict[str, Any]:
    """``config.json`` with what is the same in all families. Token ids are null: they are the tokenizer's."""
    common = {
        "architectures": [class_name],
        "bos_token_id": None,
        "dtype": "float32",
        "eos_token_id": None,
        "initializer_range": 0.02,
        "model_type": model_type,
        "pad_token_id": None,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": vocab_size,
    }
    return dict(sorted((common | values | ({NORM_KEY: norm} if norm == "none" else {})).items()))
