from __future__ import annotations

import pytest
from lmgraft_megatron.conformance import TestMegatron

__all__ = ["TestMegatron"]

pytest.importorskip("megatron.core")
pytestmark = pytest.mark.slow
