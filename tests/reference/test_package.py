"""The package equals the slow twins where golden files have no number: DeepKD's mask, KD in streams, GSNR."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fractionate as fr
from fractionate import Progress
from fractionate.monitors import GSNR
from tests import cases
from tests.asserts import assert_equal, assert_same
from tests.reference import deepkd, dkd, gsnr

ROWS = {name: lg for name, lg in cases.graded() if lg.rows}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("form", ["per_row", "batch_means"])
@pytest.mark.parametrize("keep", [0, 3])
def test_kd_in_streams(name: str, form: str, keep: int) -> None:
    lg = ROWS[name]
    method = fr.methods.deepkd(fr.methods.kd(temperature=3.0), kd_form=form, keep=keep)
    slow = deepkd.kd_mode(lg.student, lg.teacher, lg.target, temperature=3.0, keep=keep, form=form)
    found = method.components(lg)
    assert_same({name: found[name] for name in slow}, slow)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("count_target", [True, False])
@pytest.mark.parametrize("keep", [1, 2, 6])
def test_the_mask_under_both_counting_rules(name: str, count_target: bool, keep: int) -> None:
    lg = ROWS[name]
    method = fr.methods.deepkd(fr.methods.dkd(temperature=3.0), keep=keep, count_target=count_target)
    slow = deepkd.components(lg.student, lg.teacher, lg.target, temperature=3.0, keep=keep, count_target=count_target)
    found = method.components(lg)
    assert_same({name: found[name] for name in slow}, slow)


@given(st.integers(3, 1000), st.floats(0.05, 1.0), st.integers(1, 300), st.data())
def test_the_mask_schedule(classes: int, share: float, epochs: int, data: st.DataObject) -> None:
    epoch = data.draw(st.integers(1, epochs))
    schedule, plateau = fr.schedules.phases(plateau=share), round(share * classes, 9)
    at = Progress(epoch=epoch, epochs=epochs)
    if plateau < max(2.0, 0.05 * classes):
        with pytest.raises(ValueError, match="plateau"):
            schedule.count(at, classes)
        return
    slow = deepkd.kept_classes(deepkd.epoch_fraction(epoch, epochs), classes, plateau)
    assert schedule.count(at, classes) == slow


def test_the_schedule_drives_the_mask() -> None:
    """C = 20, plateau .5: 2 classes are ranked in epoch 1, 10 in the middle, all at the end."""
    lg, keep = cases.easy(n=4, c=20), fr.schedules.phases(plateau=0.5)
    method = fr.methods.deepkd(fr.methods.dkd(temperature=2.0), keep=keep)
    for epoch, k in ((1, 2), (50, 10), (100, 20)):
        slow = deepkd.components(lg.student, lg.teacher, lg.target, temperature=2.0, keep=k)
        found = method.components(lg, Progress(epoch=epoch, epochs=100))
        assert_equal(found["nontarget"], slow["nontarget"], f"epoch {epoch}")


@pytest.mark.parametrize("keep", [3, None])
@pytest.mark.parametrize("direction", ["reverse", "both"])
def test_the_mask_works_in_every_direction_of_kl(direction: str, keep: int | None) -> None:
    """TCKD stays forward; NCKD over the kept classes follows ``kl``."""
    lg = cases.easy()
    method = fr.methods.deepkd(fr.methods.dkd(temperature=2.0, kl=direction), keep=keep)
    partition = fr.by_target_top(lg, keep) if keep else fr.by_target(lg)
    inside = fr.split_kl(lg.student, lg.teacher, partition, 2.0, direction).within[:, 1]
    found = method.components(lg)
    slow = dkd.dkd(lg.student, lg.teacher, lg.target, temperature=2.0)
    assert_equal(found["target"], slow["target"])
    assert_equal(found["nontarget"], inside)


@pytest.mark.parametrize("mode", ["block", "sliding"])
def test_gsnr_of_a_window(mode: str) -> None:
    """Block: the last full window. Sliding: the last N gradients."""
    random = torch.Generator().manual_seed(3)
    signal = torch.randn(40, generator=random)
    gradients = [signal + 3 * torch.randn(40, generator=random) for _ in range(13)]
    monitor = GSNR(window=5, mode=mode)
    for g in gradients:
        monitor.update({"task": [g[:30].view(5, 6), g[30:]]})
    slow = gsnr.gsnr(gradients[5:10] if mode == "block" else gradients[8:])
    found = monitor.read()["task"]
    for value, expected in (
        (found.ratio, slow.ratio),
        (found.signal, slow.corrected_signal),
        (found.noise, slow.noise),
    ):
        assert value == pytest.approx(expected, rel=1e-4)


def test_gsnr_of_a_constant_gradient_is_infinite_and_of_noise_about_one_over_n() -> None:
    constant, noise = GSNR(window=50), GSNR(window=50)
    random = torch.Generator().manual_seed(5)
    for _ in range(50):
        constant.update({"task": [torch.ones(8)]})
        noise.update({"task": [torch.randn(4000, generator=random)]})
    assert constant.read()["task"].ratio == float("inf")
    assert noise.read()["task"].ratio == pytest.approx(1 / 50, rel=0.2)
