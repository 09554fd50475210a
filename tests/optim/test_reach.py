"""Layers that streams cannot reach are refused with the remedy, and parameters that none reaches are named once."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fractionate as fr


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
    with pytest.warns(UserWarning, match=r"StreamSGD: 2 of 6 parameters .*number 4 of shape \[4, 4\].* are replaced"):
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
