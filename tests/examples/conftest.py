"""Examples that run on several processes, beside one process with the same batches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tests.examples.launched import EXAMPLES, run


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], dict[str, Any]]]:
    """An example in this process, in float64; forgotten afterwards."""
    before, dtype, threads = set(sys.modules), torch.get_default_dtype(), torch.get_num_threads()
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield run
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)
    for name in set(sys.modules) - before:
        if str(EXAMPLES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
