"""Runs of these tests leave no ONNX files: exporting one takes longer than training it."""

from __future__ import annotations

import pytest

from fractionate.studies import shipped


@pytest.fixture(autouse=True)
def _no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "ONNX_NEEDS", ("no_such_package",))
