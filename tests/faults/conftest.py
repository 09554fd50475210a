"""The marker of the fault tests: ``pytest -m faults``."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "faults: injects a fault or bad input and looks at what the user sees and loses")
