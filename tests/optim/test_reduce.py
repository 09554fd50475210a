"""Sums over processes, as far as one process can show them; several are in ``tests/distributed``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import Shard, distribute_tensor

import fractionate as fr
from fractionate.optim import PeerLost
from fractionate.optim.reduce import _Row, heard


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def losses(net: nn.Module) -> dict[str, torch.Tensor]:
    z = net(torch.ones(5, 2, 4, 4))
    return {"all": z.square().mean(), "head": net[2].weight.sum()}


@pytest.mark.usefixtures("one_process")
def test_one_process_gets_its_own_gradients_laid_out_as_its_weights() -> None:
    net = network()
    alone, together = fr.stream_grads(losses(net), net), fr.stream_grads(losses(net), net, reduce=fr.AllReduce())
    for name, row in alone.items():
        for p, expected, found in zip(net.parameters(), row, together[name], strict=True):
            assert (expected is None) == (found is None)
            if expected is not None:
                assert torch.equal(found, expected)
                assert found.stride() == p.stride()


@pytest.mark.usefixtures("one_process")
def test_the_scale_multiplies_every_stream() -> None:
    net = network()
    alone, scaled = fr.stream_grads(losses(net), net), fr.stream_grads(losses(net), net, reduce=fr.AllReduce(scale=0.5))
    for name, row in alone.items():
        assert all(a is None or torch.equal(b, a / 2) for a, b in zip(row, scaled[name], strict=True))


@pytest.mark.usefixtures("one_process")
def test_the_next_step_uses_the_same_memory() -> None:
    net, reduce = network(), fr.AllReduce()
    first, second = (fr.stream_grads(losses(net), net, reduce=reduce) for _ in range(2))
    assert first["all"][0].data_ptr() == second["all"][0].data_ptr()  # type: ignore[union-attr]


def test_what_is_sent_holds_the_numbers_of_the_parameters_and_nothing_between_them() -> None:
    mixed = [torch.zeros(3), torch.zeros(2, dtype=torch.float64), torch.zeros(4), torch.zeros(1, dtype=torch.float64)]
    flat = _Row(mixed).flat
    assert {kind[0]: len(numbers) for kind, numbers in flat.items()} == {torch.float32: 7, torch.float64: 3}


@pytest.mark.usefixtures("one_process")
def test_aggregators_of_whole_gradients_are_not_given_shards() -> None:
    mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
    shard = distribute_tensor(torch.ones(4), mesh, [Shard(0)])
    with pytest.raises(ValueError, match="needs whole gradients, and these are in shards"):
        fr.combine.aggregated({"a": [shard], "b": [shard]}, lambda matrix: matrix.mean(0))


@pytest.mark.usefixtures("one_process")
def test_parameters_of_two_types_are_summed_apart() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].double()
    grads = fr.stream_grads({"loss": net[1](net[0](torch.ones(1, 2)).double()).sum()}, net, reduce=fr.AllReduce())
    assert [g.dtype for g in grads["loss"] if g is not None] == [torch.float32] * 2 + [torch.float64] * 2


def test_gradients_of_parts_add_up_to_those_of_the_whole() -> None:
    net, x = network().double(), torch.randn(6, 2, 4, 4, dtype=torch.float64)

    def streams(rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"square": net(rows).square().sum(), "cube": net(rows).pow(3).sum()}

    parts = fr.stream_grads(streams(x[4:]), net, onto=fr.stream_grads(streams(x[:4]), net))
    for name, row in fr.stream_grads(streams(x), net).items():
        for a, b in zip(row, parts[name], strict=True):
            torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)


def test_parts_of_other_streams_are_refused() -> None:
    net = network()
    before = fr.stream_grads({"other": losses(net)["all"]}, net)
    with pytest.raises(ValueError, match=r"onto holds the streams \['other'\]"):
        fr.stream_grads(losses(net), net, onto=before)


@pytest.mark.usefixtures("one_process")
def test_moves_that_are_not_affine_in_the_gradient_are_not_averaged() -> None:
    fr.UpdateAllReduce(fr.StreamSGD(network().parameters()))
    with pytest.raises(ValueError, match=r"StreamAdamW are not affine.*fr\.AllReduce"):
        fr.UpdateAllReduce(fr.StreamAdamW(network().parameters()))


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("make", [fr.StreamSGD, fr.StreamAdamW])
def test_sums_that_lie_in_the_memory_of_the_part_before_are_not_held_twice(make: type) -> None:
    net, reduce = network(), fr.AllReduce()
    opt = make(net.parameters(), 0.1, {"all": 0.9, "head": 0.5})
    opt.hold(fr.stream_grads(losses(net), net, reduce=reduce))
    again = fr.stream_grads(losses(net), net, reduce=reduce)
    with pytest.raises(ValueError, match=r"memory of the gradients held before, which AllReduce uses again"):
        opt.hold(again)


@pytest.mark.parametrize("maker", [fr.AllReduce, lambda: fr.UpdateAllReduce(fr.StreamSGD(network().parameters()))])
def test_without_processes_the_way_to_get_them_is_said(maker: type) -> None:
    with pytest.raises(ValueError, match="start the program with torchrun"):
        maker()


def test_a_failed_call_means_a_lost_process() -> None:
    def call() -> None:
        raise RuntimeError("Connection closed by peer")

    with pytest.raises(PeerLost, match=r"another process of this run has ended .*Connection closed by peer"):
        heard(call)
