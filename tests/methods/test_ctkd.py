"""CTKD: the learned temperature, its reversed gradient, and what it composes with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Method, Progress
from fractionate.methods.kd import Temperature, reversal
from tests import asserts, cases, golden

M = fr.methods
LATE = Progress(epoch=200)


def learned(inner: Method, theta: float = 0.3) -> Method:
    """CTKD in float64 with theta set."""
    method = M.ctkd(inner)
    method.module.double()
    torch.nn.init.constant_(method.module.theta, theta)
    return method


INNER = {
    "kd": M.kd(),
    "dkd": M.dkd(),
    "kd+lskd": M.lskd(M.kd()),
    "dkd+swap": M.swap(M.dkd()),
    "nkd": M.nkd(),
    "ofa": M.ofa(),
    "dist": M.dist(),
}
every_inner = pytest.mark.parametrize("inner", INNER.values(), ids=INNER)


def rows_of(method: Method) -> asserts.Components:
    return lambda lg: method.components(lg, LATE)


@every_inner
def test_values_are_those_of_the_method_at_the_learned_temperature(inner: Method) -> None:
    method, lg = learned(inner), cases.easy(strong=False)
    expected = inner.with_args(temperature=method.module().item()).components(lg, LATE)
    asserts.assert_same(method.components(lg, LATE), expected)


@every_inner
def test_values_and_gradients_are_right_and_finite(inner: Method) -> None:
    rows = rows_of(learned(inner))
    asserts.assert_gradcheck(rows, cases.easy(n=4, strong=False))
    for dtype in cases.LOW_PRECISION:
        for size in (200, 1e4):
            asserts.assert_finite(rows_of(M.ctkd(inner)), cases.cast(cases.huge(size=size), dtype))
    asserts.assert_no_teacher_gradient(rows, cases.easy())
    asserts.assert_empty_batch_is_zero(lambda lg: learned(inner).loss(lg, LATE), cases.easy())


@pytest.mark.compiled
@every_inner
def test_compiles(inner: Method) -> None:
    asserts.assert_compiles_like_eager(rows_of(learned(inner)), cases.easy(strong=False))


def slope(method: Method, progress: Progress) -> Tensor:
    """What the optimizer of theta sees."""
    (grad,) = torch.autograd.grad(method.loss(cases.easy(), progress), method.module.theta)
    return grad


@pytest.mark.parametrize("inner", [M.kd(), M.dkd()], ids=["kd", "dkd"])
def test_theta_receives_lambda_times_its_gradient(inner: Method) -> None:
    method, step = learned(inner), 1e-5
    values = [learned(inner, theta).loss(cases.easy(), LATE).detach() for theta in (0.3 - step, 0.3 + step)]
    true = (values[1] - values[0]) / (2 * step)
    asserts.assert_equal(slope(method, LATE), -true, rtol=1e-5)  # reversed
    early = Progress(epoch=4)
    weight = inner.parts["kd" if inner.name == "kd" else "target"].weight
    factor = reversal(4, 10) * weight(early) / weight(LATE)
    asserts.assert_equal(slope(method, early), factor * true, rtol=1e-5)


@pytest.mark.parametrize(
    "record", [c for c in golden.schedules() if c["method"] in ("ctkd-cosine", "ctkd-linear")], ids=lambda r: r["id"]
)
def test_reversal_follows_the_published_schedules(record: dict) -> None:
    h = record["hyper"]
    assert (h["decay_max"], h["decay_min"]) == (0.0, -1.0)
    form = record["method"].removeprefix("ctkd-")
    found = [reversal(epoch, h["decay_loops"], form) for epoch in record["epochs"]]
    golden.assert_close(torch.tensor(found).double(), torch.tensor(record["values"]).double(), record["id"])


def test_the_published_trajectory_of_the_temperature() -> None:
    (record,) = (c for c in golden.schedules() if c["method"] == "ctkd-trajectory")
    h = record["hyper"]
    student, teacher = (torch.tensor(h[n], dtype=torch.float64) for n in ("student", "teacher"))
    lg = fr.Logits(student, teacher, torch.zeros(len(student)).long())
    base = M.kd(ce_weight=0.0, kd_weight=1.0)
    method = M.ctkd(base, t_start=h["t_start"], t_end=h["t_end"], ramp_epochs=h["decay_loops"])
    method.module.double()
    assert method.module.theta.item() == h["initial_parameter"]
    options = {"lr": h["lr"], "momentum": h["momentum"], "weight_decay": h["weight_decay"]}
    optimizer = torch.optim.SGD(method.module.parameters(), **options)
    found: dict[str, list[Tensor]] = {"parameter": [], "temperature": [], "loss": []}
    for epoch in record["epochs"]:
        optimizer.zero_grad()
        loss = method.loss(lg, Progress(epoch=epoch))
        for name, value in (("parameter", method.module.theta), ("temperature", method.module()), ("loss", loss)):
            found[name].append(value.detach().clone())
        loss.backward()
        optimizer.step()
    for name, values in found.items():
        golden.assert_close(
            torch.stack(values), torch.tensor(record[name], dtype=torch.float64), f"{record['id']} {name}"
        )


def test_the_temperature_starts_at_15_6_and_stays_in_its_interval() -> None:
    module = Temperature(1.0, 20.0)
    assert module().item() == pytest.approx(1 + 20 * torch.ones(()).sigmoid().item())
    for theta in (-50.0, 50.0):
        torch.nn.init.constant_(module.theta, theta)
        assert 1.0 <= module().item() <= 21.0


def test_its_state_is_one_number() -> None:
    method, other = learned(M.kd(), theta=-2.0), learned(M.kd())
    assert list(method.module.state_dict()) == ["theta"]
    other.module.load_state_dict(method.module.state_dict())
    asserts.assert_equal(other.loss(cases.easy()), method.loss(cases.easy()))


def test_dot_and_deepkd_share_the_module_and_split_the_loss() -> None:
    lg, method = cases.easy(), learned(M.kd())
    for wrapped in (M.dot(method), M.deepkd(method), M.deepkd(method, keep=lg.classes)):
        assert wrapped.module is method.module
        asserts.assert_equal(wrapped.loss(lg, LATE), method.loss(lg, LATE))
    (a,) = torch.autograd.grad(M.deepkd(method).loss(lg, LATE), method.module.theta)
    asserts.assert_equal(a, slope(method, LATE))


def test_standardisation_inside_and_outside_are_the_same() -> None:
    inside, outside = learned(M.lskd(M.kd(), weight=2.0)), M.lskd(learned(M.kd()), temperature=None, weight=2.0)
    asserts.assert_equal(inside.loss(cases.easy(), LATE), outside.loss(cases.easy(), LATE))


def test_common_arguments_go_to_the_method_inside() -> None:
    method = M.ctkd(M.dkd(), ce_weight=0.5, warmup=10, label_smoothing=0.1, hard="argmax")
    assert method.parts["task"].weight(LATE) == 0.5
    assert method.parts["target"].weight(Progress(epoch=5)) == 0.5
    assert method.hard == "argmax"
    assert method.task == M.dkd(label_smoothing=0.1).task


@pytest.mark.parametrize("inner", [M.ttm(), M.mlkd(), M.ctkd()], ids=["ttm", "mlkd", "ctkd"])
def test_a_method_without_such_a_temperature_is_refused(inner: Method) -> None:
    with pytest.raises(ValueError, match="no temperature that can be learned"):
        M.ctkd(inner)


@pytest.mark.parametrize("arguments", [{"t_start": 0.0}, {"t_end": -1.0}, {"ramp_epochs": 0}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"ctkd: {next(iter(arguments))}"):
        M.ctkd(**arguments)


def test_what_is_learnt_stays_the_same_parameters_where_arguments_change_or_a_wrapper_needs_them_changed() -> None:
    method = learned(M.kd(), theta=-2.0)
    for other in (method.with_args(ce_weight=0.5), M.lskd(method), method.with_args(ce_weight=0.5).with_args(warmup=2)):
        assert other.module is not None
        assert other.module.theta is method.module.theta
