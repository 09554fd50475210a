"""Layers that streams cannot reach are refused with the remedy, and parameters that none reaches are named once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fractionate as fr
from fractionate.optim import reach
from tests.optim.kinds import EACH, Kind


class Student(nn.Module):
    def __init__(self, how: str = "plain", tied: bool = False) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.how = how
        if tied:
            self.head = self.block

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "plain":
            return self.head(self.block(self.stem(x)))
        if self.how == "first":  # nothing before the recomputed layer is trained
            x = checkpoint(self.block, x.requires_grad_(), use_reentrant=True)
            return self.head(x)
        return self.head(checkpoint(self.block, self.stem(x), use_reentrant=self.how == "reentrant"))


def streams(net: nn.Module) -> fr.StreamGrads:
    z = net(torch.ones(2, 4))
    return fr.stream_grads({"a": z.square().mean(), "b": z.sum()}, net)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("how", ["reentrant", "first"])
def test_reentrant_checkpointing_is_refused_at_every_step_with_its_remedy(how: str, tied: bool) -> None:
    """Also where the recomputed layer has a gradient from elsewhere, and would be trained in part."""
    net = Student(how, tied)
    for _ in range(2):
        with pytest.raises(ValueError, match="use_reentrant=False"):
            streams(net)


def test_the_other_kind_of_checkpointing_gives_the_plain_gradients() -> None:
    torch.manual_seed(0)
    plain, recomputed = Student(), Student("again")
    recomputed.load_state_dict(plain.state_dict())
    a, b = streams(plain), streams(recomputed)
    assert all(torch.equal(x, y) for name in a for x, y in zip(a[name], b[name], strict=True))


def test_trained_parameters_that_no_stream_reaches_are_named_once() -> None:
    net = Student()
    net.spare, net.frozen = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    with pytest.warns(UserWarning, match=r"2 of 8 .*no stream .*spare\.weight, spare\.bias\)"):
        streams(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        streams(net)
        streams(Student())


def test_listed_parameters_are_named_by_place_and_shape() -> None:
    net, spare = Student(), nn.Parameter(torch.ones(3))
    with pytest.warns(UserWarning, match=r"1 of 7 .*number 6 of shape \[3\]"):
        fr.stream_grads({"a": net(torch.ones(2, 4)).sum()}, [*net.parameters(), spare])


def test_parameters_of_the_optimizer_that_were_not_differentiated_are_named_once() -> None:
    """A layer that was replaced after the optimizer was made; a temperature that the method learns."""
    net = Student()
    optimizer = fr.StreamSGD(net.parameters(), lr=0.1, momentum=fr.Momenta({"a": 0.9, "b": 0.5}, base=0.9))
    net.head = nn.Linear(4, 4)
    with (
        pytest.warns(UserWarning, match=r"StreamSGD: 2 of 6 parameters .*number 4 of shape \[4, 4\].* are replaced"),
        pytest.warns(UserWarning, match=r"StreamSGD: 2 of 6 differentiated parameters are in no stream optimizer"),
    ):
        optimizer.step(streams(net))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step(streams(net))


def test_a_stream_that_depends_on_no_parameter_is_named_once() -> None:
    net = Student()
    losses = {"a": net(torch.ones(2, 4)).sum(), "b": torch.zeros(())}
    with pytest.warns(UserWarning, match="loss of 'b' depends on no parameter"):
        fr.stream_grads(losses, net)


def test_named_parameters_are_refused_in_words() -> None:
    net = Student()
    with pytest.raises(ValueError, match=r"got tuples; give student\.parameters\(\), not named_parameters"):
        fr.stream_grads({"a": net(torch.ones(2, 4)).sum()}, net.named_parameters())


# -- parameters that were forgotten ----------------------------------------------------------------


def told(call: Any, times: int = 3) -> list[str]:
    """What is said over some steps."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(times):
            call()
    assert all(w.category is UserWarning for w in found)
    return [str(w.message) for w in found]


def test_parameters_that_the_losses_depend_on_and_that_were_not_given_are_said_once() -> None:
    """A temperature that the method learns, and that nobody moves."""
    net, method = nn.Linear(6, 7), fr.methods.ctkd(fr.methods.kd())
    target = torch.arange(4)

    def step() -> None:
        rows = fr.Logits(net(torch.ones(4, 6)), torch.zeros(4, 7), target)
        fr.stream_grads(method.stream_losses(rows, fr.Progress(epoch=200, epochs=240)), net)

    (said,) = told(step)
    assert "1 of 3 parameters that the losses depend on were not given, and stay as they are (of shape [])" in said
    assert "method.module.parameters()" in said
    assert "requires_grad_(False)" in said


def test_part_of_a_student_may_be_differentiated_alone_after_it_was_said_once() -> None:
    net = Student()
    x = torch.ones(2, 4)
    (said,) = told(lambda: fr.stream_grads({"a": net(x).sum()}, net.head))
    assert "4 of 6 parameters that the losses depend on were not given" in said
    assert "(of shape [4, 4], [4, 4], [4], ...)" in said


def test_teachers_without_a_graph_frozen_layers_and_inputs_are_not_called_forgotten() -> None:
    net, teacher, x = Student(), nn.Linear(4, 4), torch.ones(2, 4, requires_grad=True)
    net.stem.requires_grad_(False)
    optimizer = fr.StreamSGD([p for p in net.parameters() if p.requires_grad], lr=0.1)

    def step() -> None:
        with torch.no_grad():
            aim = teacher(x)
        optimizer.step(fr.stream_grads({"loss": nn.functional.mse_loss(net(x), aim)}, net))

    assert told(step) == []


@EACH
def test_differentiated_parameters_that_no_optimizer_holds_are_said_once(kind: Kind) -> None:
    """A body that was unfrozen, or a projector that was added, after the optimizer was made."""
    net = Student()
    net.stem.requires_grad_(False)
    net.block.requires_grad_(False)
    optimizer = kind.make(net.head.parameters(), {"a": 0.9, "b": 0.5})
    assert told(lambda: optimizer.step(streams(net))) == []
    net.block.requires_grad_(True)
    before = net.block.weight.clone()
    (said,) = told(lambda: optimizer.step(streams(net)))
    assert f"{kind.name}: 2 of 4 differentiated parameters are in no stream optimizer and stay as they are" in said
    assert "(number 2 of shape [4, 4], number 3 of shape [4])" in said
    assert torch.equal(before, net.block.weight)


@EACH
def test_a_new_optimizer_of_the_same_student_is_looked_at_again(kind: Kind) -> None:
    net, more = Student(), nn.Parameter(torch.ones(4))
    for _ in range(2):
        optimizer = kind.make(net.parameters(), {"a": 0.9})
        found = [fr.stream_grads({"a": (net(x) * more).sum()}, [*net.parameters(), more]) for x in torch.ones(3, 2, 4)]
        (said,) = told(partial(step_by, optimizer, iter(found)))
        assert "1 of 7 differentiated parameters" in said


def step_by(optimizer: Any, grads: Iterator[fr.StreamGrads]) -> None:
    optimizer.step(next(grads))


@EACH
def test_two_optimizers_of_one_student_are_no_reason_to_speak(kind: Kind) -> None:
    net = Student()
    parts = [kind.make(m.parameters(), {"a": 0.9, "b": 0.5}) for m in (net.stem, nn.ModuleList([net.block, net.head]))]

    def step() -> None:
        grads = streams(net)
        for optimizer in parts:
            optimizer.step(grads)

    assert told(step) == []


# -- checkpointing that begins later ---------------------------------------------------------------


def test_reentrant_checkpointing_that_begins_after_the_first_step_is_refused() -> None:
    net = Student()
    streams(net)
    net.how = "first"
    for _ in range(2):
        with pytest.raises(ValueError, match="use_reentrant=False"):
            streams(net)


def test_a_layer_that_is_left_out_now_and_then_is_looked_at_once() -> None:
    """Stochastic depth: the graph is walked for a parameter that has lost its gradient, and not for it again."""
    net = Student()
    streams(net)
    plain = Student.forward
    net.forward = lambda x: net.head(net.stem(x))
    with patch.object(reach, "_nodes", wraps=reach._nodes) as walked:
        assert told(lambda: streams(net)) == []
        assert walked.call_count == 1
        net.forward = lambda x: plain(net, x)
        assert told(lambda: streams(net)) == []
        assert walked.call_count == 1
