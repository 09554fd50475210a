"""Many pixels are taken a chunk at a time by the trainer: the step is that of rows, and no map is copied as rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import fractionate as fr
from fractionate.config.task import Segmentation as Settings
from fractionate.methods.pixels import PixelMaps
from fractionate.rows import Logits
from fractionate.tasks import segmentation
from fractionate.train.build import parameters
from fractionate.train.step import Step, Stepper
from tests.dense import nets
from tests.dense.test_task import C, batch, training


def step(method: str, settings: Settings, accumulate: int = 1, labels: bool = True) -> tuple[Stepper, Step]:
    t = training(method, task=settings, accumulate=accumulate)
    stepper, b = Stepper(t, parameters(t.student, t.method)), batch()
    if not labels:
        b.target.fill_(255)
    return stepper, stepper(b, fr.Progress(epochs=2, steps=4))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def begin() -> None:
        monkeypatch.setattr(segmentation, "CHUNK", 16)

    return begin


@pytest.mark.parametrize(
    "method", ["ce", "kd(temperature=1)", "gdkd(k=2)", "dkd+deepkd(normalize_gain=True)", "kd+dot"]
)
@pytest.mark.parametrize(("logits", "accumulate"), [("labels", 1), ("head", 3)])
def test_the_step_is_that_of_rows(method: str, logits: str, accumulate: int, small_chunks: Callable[[], None]) -> None:
    settings = Settings(logits=logits)  # type: ignore[arg-type]
    of_rows, first = step(method, settings, accumulate)
    small_chunks()
    of_maps, second = step(method, settings, accumulate)
    assert isinstance(of_maps._rows(batch()), PixelMaps)
    torch.testing.assert_close(second.loss, first.loss, rtol=1e-9, atol=0)
    assert first.components.keys() == second.components.keys()
    for name, value in first.components.items():
        torch.testing.assert_close(second.components[name], value, rtol=1e-9, atol=1e-12)
    for a, b in zip(of_rows.trained, of_maps.trained, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)


def test_without_any_label_nothing_moves_and_all_is_finite(small_chunks: Callable[[], None]) -> None:
    small_chunks()
    _, found = step("dkd+deepkd", Settings(), labels=False)
    assert float(found.loss) == 0
    assert all(g is not None and not g.any() for row in found.grads.values() for g in row)


def test_methods_that_need_all_rows_and_second_heads_are_given_rows(small_chunks: Callable[[], None]) -> None:
    small_chunks()
    t = training("dist(scale=False)")
    assert isinstance(Stepper(t, parameters(t.student, t.method))._rows(batch()), Logits)
    t = training("kd", nets.with_auxiliary(C), task=Settings(auxiliary=0.4))
    assert isinstance(Stepper(t, parameters(t.student, t.method))._rows(batch()), Logits)
