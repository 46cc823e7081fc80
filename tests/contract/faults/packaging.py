"""Faults of packaging: the light module, what the wheel holds, names, hooks, settings, versions."""

from __future__ import annotations

from faults.fault import Fault, conformance, light

__all__ = ["FAULTS"]

LONGEST = """\
from lmgraft.seams.filter import KEEP, Verdict


class Part:
    def __init__(self, config):
        self.config = config

    def judge(self, batch):
        return [self._one(document.text or "") for document in batch]

    def _one(self, text):
        return Verdict.drop("too_long") if len(text) > self.config.longest else KEEP
"""

#: One call of exp for a default drags in all of numpy.
HEAVY_IMPORT = Fault(
    name="heavy-import",
    seam="filter",
    files={
        "plugin.py": light(
            "filter",
            "Drops documents beyond a length",
            '''
            longest: int = int(exp(9))
            """Characters; the mean of a log-normal length, by default."""
            ''',
            more="from math import exp\n\n",
        ),
        "part.py": LONGEST,
        "conformance.py": conformance("FilterSuite", 'settings = {"longest": 100}'),
    },
    slips=(("from math import exp", "from numpy import exp"),),
    check="test_light_import",
    says=("heavy_import.plugin", "numpy", "heavy_import.part"),
)

WORDS = """\
from lmgraft.seams.filter import KEEP, Verdict


class Part:
    def __init__(self, config):
        self.least = config.words

    def judge(self, batch):
        short = Verdict.drop("too_few_words")
        return [short if len((document.text or "").split()) < self.least else KEEP for document in batch]
"""

MISSING_YAML = Fault(
    name="missing-yaml",
    seam="filter",
    files={
        "plugin.py": light(
            "filter",
            "Drops documents of few words",
            '''
            words: int = 3
            """The least number of words."""
            ''',
            variants='("strict",)',
        ),
        "part.py": WORDS,
        "conf/filter/PACKAGE/strict.yaml": "defaults: [/filter/PACKAGE@_here_, _self_]\nPACKAGE:\n  words: 20\n",
    },
    leaves_out="conf/filter/PACKAGE/strict.yaml",
    check="test_variants_in_the_wheel",
    says=("conf/filter/missing_yaml/strict.yaml", "missing-yaml", "wheel"),
)

#: An initializer whose hook writes its name with a hyphen and whose entry point writes it with an underscore.
TWO_NAMES = Fault(
    name="two-names",
    seam="initializer",
    files={
        "plugin.py": light(
            "initializer",
            "Normal weights, ones for norms, zero biases",
            '''
            std: float = 0.02
            """Standard deviation of the weights."""
            ''',
        ),
        "part.py": """\
            from lmgraft.seams.architecture import Role


            class Part:
                def __init__(self, config):
                    self.std = config.std

                def fill(self, tensor, role, shape, generator):
                    if role.role is Role.NORM:
                        tensor.fill_(1.0)
                    elif role.role is Role.BIAS:
                        tensor.zero_()
                    else:
                        tensor.normal_(0.0, self.std, generator=generator)
        """,
    },
    slips=(('name="PACKAGE"', 'name="two-names"'),),
    check="test_entry_point",
    says=("promise two_names", "returns two-names", "make the two lists equal"),
)

MISSPELT_HOOK = Fault(
    name="misspelt-hook",
    seam="schedule",
    files={
        "plugin.py": light(
            "schedule",
            "From the peak down to a floor, as a cosine",
            '''
            floor: float = 0.1
            """What is left of the peak at the end."""
            ''',
        ),
        "part.py": """\
            import math


            class Part:
                def __init__(self, config):
                    self.floor = config.floor

                def factor(self, step, steps):
                    return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * step / steps))

                def extendable(self):
                    return False
        """,
    },
    slips=(("def lmgraft_schedule(", "def lmgraft_shedule("),),
    check="test_entry_point",
    says=("no hook lmgraft_shedule", "did you mean lmgraft_schedule?", "misspelt_hook.plugin"),
)

#: A dataclass that a function makes has a name under which pickle does not find it again.
UNPICKLABLE = Fault(
    name="unpicklable-config",
    seam="filter",
    files={
        "plugin.py": '''\
            from __future__ import annotations

            from dataclasses import dataclass

            from lmgraft.component import Component, ComponentConfig
            from lmgraft.hookspecs import hookimpl


            @dataclass
            class English(ComponentConfig):
                longest: int = 80
                """Characters of a line."""


            @hookimpl
            def lmgraft_filter() -> list[Component]:
                summary = "Drops documents beyond the length of a line"
                return [Component(name="PACKAGE", target="PACKAGE.part:Part", config=English, summary=summary)]
        ''',
        "part.py": LONGEST,
    },
    slips=(
        (
            '''\
            @dataclass
            class English(ComponentConfig):
                longest: int = 80
                """Characters of a line."""
''',
            '''\
            def settings_for(characters: int) -> type[ComponentConfig]:
                """Languages differ in the length of a line, and in nothing else."""

                @dataclass
                class Settings(ComponentConfig):
                    longest: int = characters
                    """Characters of a line."""

                return Settings


            English = settings_for(80)
''',
        ),
    ),
    check="test_config_pickles",
    says=("do not pickle", "settings_for.<locals>", "at the top of unpicklable_config.plugin"),
)

MISSING_CAP = Fault(
    name="missing-cap",
    seam="optimizer",
    files={
        "plugin.py": light(
            "optimizer",
            "Gradient descent with Nesterov's momentum",
            '''
            lr: float = 0.05
            """The schedule's peak."""
            momentum: float = 0.9
            """Share of the last step that is kept."""
            ''',
        ),
        "part.py": """\
            import torch


            class Part:
                def __init__(self, config):
                    self.config = config

                def peak(self):
                    return self.config.lr

                def build(self, parameters):
                    chosen = [{"params": [one], "scale": role.lr_scale} for _, one, role in parameters]
                    return torch.optim.SGD(chosen, lr=self.config.lr, momentum=self.config.momentum, nesterov=True)
        """,
    },
    requires="lmgraft",
    check="test_version_cap",
    says=("missing-cap", "no upper cap", "pyproject.toml", "<0.2"),
)

FAULTS = [HEAVY_IMPORT, MISSING_YAML, TWO_NAMES, MISSPELT_HOOK, UNPICKLABLE, MISSING_CAP]
