from __future__ import annotations

import pytest
from lmgraft_data_parallel.conformance import TestDDP as _TestDDP
from lmgraft_data_parallel.conformance import TestSingle

__all__ = ["TestDDP", "TestSingle"]


@pytest.mark.slow
class TestDDP(_TestDDP):
    pass
