"""The suites of this package, for ``lmgraft plugins check abacus-engine``."""

from lmgraft.testing import ParallelismSuite


class TestAbacus(ParallelismSuite):
    component = "abacus"
