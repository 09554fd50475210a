"""stream_grads differentiates every stream once, and as often as there are coefficients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import fractionate as fr
from fractionate import Method
from tests.asserts import assert_equal
from tests.optim.problem import DKD, network, rows

DEEPKD = fr.methods.deepkd(DKD)
PUBLISHED = fr.methods.deepkd(DKD, rule="published-code")


def losses(net: nn.Module, method: Method = DEEPKD, merge: bool | None = None) -> dict[str, Tensor]:
    return method.stream_losses(rows(net, 0), merge=merge)


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", [True, False])
def test_every_stream_s_gradient_is_that_of_its_loss_alone(merge: bool) -> None:
    net = network()
    found = fr.stream_grads(losses(net, merge=merge), net)
    for name, loss in losses(net, merge=merge).items():
        expected = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(found[name], expected, strict=True))


@pytest.mark.parametrize("method", [DKD, DEEPKD, PUBLISHED, fr.methods.dot(DKD)], ids=repr)
def test_the_streams_add_up_to_the_gradient_of_the_whole_loss(method: Method) -> None:
    net = network()
    streams = fr.stream_grads(losses(net, method), net)
    whole = torch.autograd.grad(DKD.loss(rows(net, 0)), list(net.parameters()))
    for i, expected in enumerate(whole):
        assert_equal(torch.stack([g[i] for g in streams.values()]).sum(0), expected, f"parameter {i}", 1e-12)


def test_the_module_its_parameters_and_a_generator_of_them_give_the_same() -> None:
    net = network()
    given = (net, list(net.parameters()), net.parameters())
    found = [fr.stream_grads(losses(net), each) for each in given]
    for other in found[1:]:
        assert other.parameters == found[0].parameters
        assert all(torch.equal(a, b) for s in other for a, b in zip(other[s], found[0][s], strict=True))


def test_p_grad_stays_empty() -> None:
    net = network()
    fr.stream_grads(losses(net), net)
    assert all(p.grad is None for p in net.parameters())


def test_frozen_and_unreached_parameters_get_none() -> None:
    net = network()
    net[0].bias.requires_grad_(False)
    net.register_parameter("unused", nn.Parameter(torch.zeros(3)))
    found = fr.stream_grads(losses(net), net)
    names = [name for name, _ in net.named_parameters()]
    for grads in found.values():
        missing = {name for name, g in zip(names, grads, strict=True) if g is None}
        assert missing == {"unused", "0.bias"}


def test_a_stream_without_a_graph_gets_none_everywhere() -> None:
    net = network()
    found = fr.stream_grads({**losses(net), "silent": torch.zeros(())}, net)
    assert found["silent"] == (None,) * 4


def test_a_parameter_named_twice_is_differentiated_once() -> None:
    """Tied weights appear once in a module's parameters; a list may repeat them."""
    net = network()
    found = fr.stream_grads(losses(net), [*net.parameters(), *net.parameters()])
    assert len(found.parameters) == 4


# -- number of backward passes -------------------------------------------------------------------


def passes(method: Method, merge: bool | None = None) -> int:
    """How often a gradient flows back through the hidden layer during one stream_grads."""
    net, count = network(), 0

    def flowing(gradient: Tensor) -> None:
        nonlocal count
        count += 1

    def watch(module: nn.Module, given: object, hidden: Tensor) -> None:
        hidden.register_hook(flowing)

    net[1].register_forward_hook(watch)
    fr.stream_grads(losses(net, method, merge), net)
    return count


@pytest.mark.parametrize(
    ("method", "merge", "expected"),
    [
        (DKD, None, 1),
        (fr.methods.dot(DKD), None, 2),
        (DEEPKD, None, 2),
        (DEEPKD, False, 3),
        (fr.methods.deepkd(DKD, delta_task=0.05), None, 3),
        (fr.methods.deepkd(DKD, delta=0.0), None, 1),
        (fr.methods.deepkd(fr.methods.kd()), None, 2),
        (PUBLISHED, None, 3),
        (PUBLISHED, True, 2),
    ],
    ids=lambda x: repr(x) if isinstance(x, Method) else str(x),
)
def test_backward_passes_are_the_distinct_coefficients(method: Method, merge: bool | None, expected: int) -> None:
    assert passes(method, merge) == expected
    assert len(method.momenta(0.9, merge)) == expected
    if merge is None:
        assert method.backward_passes == expected


def test_the_graph_is_gone_afterwards_unless_kept() -> None:
    net = network()
    kept = losses(net)
    fr.stream_grads(kept, net, retain_graph=True)
    fr.stream_grads(kept, net)
    with pytest.raises(RuntimeError, match="second time"):
        fr.stream_grads(kept, net)


# -- parts of a batch ------------------------------------------------------------------------------


def test_earlier_gradients_are_added_by_parameter_and_not_by_place() -> None:
    """The parameters of a module, in another order, and without frozen ones, have the sum all the same."""
    net = network()
    net[2] = nn.Linear(5, 5).double()  # two biases of one shape
    net[0].weight.requires_grad_(False)
    first, second = (net(torch.full((2, 6), x).double()).square().sum() for x in (1.0, 2.0))
    listed = [p for p in net.parameters() if p.requires_grad][::-1]
    before = fr.stream_grads({"a": first}, listed, retain_graph=True)
    found = fr.stream_grads({"a": second}, net, onto=before, retain_graph=True)
    expected = torch.autograd.grad(first + second, listed)
    assert found.parameters == tuple(net.parameters())
    assert found["a"][0] is None
    for g, wanted in zip(found["a"][:0:-1], expected, strict=True):
        assert_equal(g, wanted, "sum", 1e-12)


def test_earlier_gradients_of_other_parameters_are_refused_in_words() -> None:
    net, other = network(), network()
    with pytest.raises(ValueError, match=r"onto lacks 4 of the 4 parameters, the first number 0 of shape \[5, 6\]"):
        fr.stream_grads(losses(net), net, onto=fr.stream_grads(losses(other), other))
    net[2].requires_grad_(False)
    before = fr.stream_grads(losses(net), net[0])
    net[2].requires_grad_(True)
    with pytest.raises(ValueError, match=r"onto lacks 2 of the 4 parameters, the first number 2 of shape \[7, 5\]"):
        fr.stream_grads(losses(net), net, onto=before)
    before = fr.stream_grads(losses(net), net)
    net[2].requires_grad_(False)
    with pytest.raises(
        ValueError, match=r"onto has gradients of 2 parameters that were not given, the first of shape \[7, 5\]"
    ):
        fr.stream_grads(losses(net), net[0], onto=before)


def test_earlier_gradients_of_other_streams_are_refused_in_words() -> None:
    net = network()
    before = fr.stream_grads(losses(net), net)
    for lacking in before:
        with pytest.raises(ValueError, match=r"onto holds the streams .*, and the losses are \['"):
            fr.stream_grads({k: v for k, v in losses(net).items() if k != lacking}, net, onto=before)
    with pytest.raises(ValueError, match="onto holds the streams"):
        fr.stream_grads({**losses(net), "more": net(torch.ones(1, 6).double()).sum()}, net, onto=before)


# -- what is refused -------------------------------------------------------------------------------


@pytest.fixture
def one_process(tmp_path: object) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_a_module_in_distributed_data_parallel_is_refused_and_its_inside_is_not() -> None:
    wrapped = nn.parallel.DistributedDataParallel(network())
    with pytest.raises(ValueError, match="all-reduces only the first"):
        fr.stream_grads(losses(wrapped), wrapped)
    found = fr.stream_grads(losses(wrapped.module), wrapped.module)
    assert all(g is not None for stream in found.values() for g in stream)


def test_a_loss_per_row_is_refused() -> None:
    net = network()
    with pytest.raises(ValueError, match=r"loss 'a' must be a scalar, got \[4\]"):
        fr.stream_grads({"a": rows(net, 0).student.sum(1)}, net)


@pytest.mark.usefixtures("unchecked")
def test_one_loss_without_a_name_is_refused() -> None:
    net = network()
    with pytest.raises(ValueError, match=r"expected losses by name, as method\.stream_losses gives them, got Tensor"):
        fr.stream_grads(sum(losses(net).values()), net)


def test_losses_without_a_graph_are_refused() -> None:
    net = network()
    with torch.no_grad():
        detached = losses(net)
    with pytest.raises(ValueError, match="no loss depends on the parameters; were the student's logits"):
        fr.stream_grads(detached, net)


def test_nothing_to_differentiate_is_refused() -> None:
    net = network()
    with pytest.raises(ValueError, match="got 0 losses and 4 such parameters"):
        fr.stream_grads({}, net)
    with pytest.raises(ValueError, match="got 2 losses and 0 such parameters"):
        fr.stream_grads(losses(net), net.requires_grad_(False))


def test_a_single_tensor_is_no_list_of_parameters() -> None:
    net = network()
    with pytest.raises(ValueError, match="expected a module or an iterable of parameters, got a tensor"):
        fr.stream_grads(losses(net), net[0].weight)
