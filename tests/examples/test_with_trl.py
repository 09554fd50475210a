"""The loss of TRL's distillation trainer falls when streams step in it."""

from __future__ import annotations

import importlib

import pytest

from tests.examples.launched import EXAMPLES

pytest.importorskip("trl", reason="the example is a loop of TRL's: pip install trl")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def test_the_loss_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    seen = importlib.import_module("with_trl").main()
    assert sum(seen[-4:]) < 0.8 * sum(seen[:4])
