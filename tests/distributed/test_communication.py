"""The model of communication agrees with what is really exchanged, and with its own limits."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.distributed as dist
from benchmarks import communication as model
from benchmarks.communication import CLUSTERS, PROCESSES, STUDENTS, Cluster
from torch.utils.flop_counter import FlopCounterMode

import fractionate as fr
from fractionate.models import create

DOCS = Path(__file__).parent.parent.parent / "docs"
NAMES = {
    "resnet8x4": ("resnet8x4", 32, 100, ""),
    "resnet18": ("torchvision:resnet18", 224, 1000, "torchvision"),
    "resnet50": ("torchvision:resnet50", 224, 1000, "torchvision"),
    "DeiT-Ti": ("timm:deit_tiny_patch16_224", 224, 1000, "timm"),
}
every_cluster = pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda c: c.name)
every_student = pytest.mark.parametrize("student", STUDENTS, ids=lambda s: s.name)


def script(name: str) -> ModuleType:
    sys.path.append(str(DOCS))
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ring(numbers: list[list[int]]) -> tuple[list[list[int]], list[int]]:
    """Slow twin: chunks go around process by process; the sums, and how many numbers each process has sent."""
    n = len(numbers)
    held, sent = [list(row) for row in numbers], [0] * n
    for step in range(2 * (n - 1)):
        gathering = step >= n - 1  # before, every chunk collects its sum; then every sum goes to everybody
        going = [((r - step) % n, held[r][(r - step) % n]) for r in range(n)]
        for r, (chunk, value) in enumerate(going):
            held[(r + 1) % n][chunk] = value if gathering else held[(r + 1) % n][chunk] + value
            sent[r] += 1
    return held, sent


def waited(row: float, backward: float, streams: int) -> float:
    """Slow twin: when the last row is summed, if row k starts after backward k and after row k - 1."""
    done = 0.0
    for k in range(1, streams + 1):
        done = max(done, k * backward) + row
    return done - streams * backward


@every_cluster
@every_student
def test_one_process_exchanges_nothing(student: model.Student, cluster: Cluster) -> None:
    assert model.all_reduce(10**9, 1, cluster) == 0
    assert {model.efficiency(student, 2, 1, cluster, exchange) for exchange in ("gradients", "update")} == {1}


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_a_ring_sends_what_the_formula_says(n: int) -> None:
    numbers = [[100 * r + c for c in range(n)] for r in range(n)]
    held, sent = ring(numbers)
    assert held == [[sum(column) for column in zip(*numbers, strict=True)]] * n
    assert sent == [model.sent(n, n)] * n


@pytest.mark.parametrize("row", [0.0, 0.5, 1.0, 1.5, 40.0])
@pytest.mark.parametrize("streams", [1, 2, 3])
def test_rows_are_waited_for_as_the_schedule_says(row: float, streams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    student, cluster = STUDENTS[0], CLUSTERS[0]
    seconds = row * student.backward
    monkeypatch.setattr(model, "all_reduce", lambda *_: seconds)
    assert model.exposed(student, streams, 8, cluster, "gradients") == pytest.approx(
        waited(seconds, student.backward, streams)
    )
    assert model.exposed(student, streams, 8, cluster, "update") == seconds


@every_cluster
@every_student
def test_more_processes_are_never_quicker_and_the_update_never_slower(student: model.Student, cluster: Cluster) -> None:
    for exchange in ("gradients", "update"):
        found = [model.exposed(student, 2, n, cluster, exchange) for n in PROCESSES]
        assert found == sorted(found)
    for n in PROCESSES:
        exposed = {e: model.exposed(student, 2, n, cluster, e) for e in ("gradients", "update")}
        assert exposed["update"] <= exposed["gradients"] <= 2 * exposed["update"]


@every_cluster
def test_large_rows_are_bound_by_the_narrowest_link_and_small_ones_by_latency(cluster: Cluster) -> None:
    large = 10**13
    assert model.all_reduce(large, 1024, cluster) == pytest.approx(
        model.sent(large, 1024) / min(cluster.inside, cluster.between), rel=1e-2
    )
    assert model.all_reduce(large, 8, cluster) == pytest.approx(model.sent(large, 8) / cluster.inside, rel=1e-2)
    hops = 2 * 7 * cluster.inside_latency + 2 * 7 * cluster.between_latency  # 8 in a host, 128 hosts in a tree
    assert model.all_reduce(0, 1024, cluster) == pytest.approx(hops)


@pytest.mark.parametrize("method", ["kd", "deepkd", "published"])
def test_the_bytes_are_those_that_are_handed_to_torch(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"kd": fr.methods.kd(), "deepkd": fr.methods.deepkd(fr.methods.dkd())}
    chosen = made.get(method) or fr.methods.deepkd(fr.methods.dkd(), rule="published-code")
    streams = {"kd": 1, "deepkd": 2, "published": 3}[method]
    net = create("resnet8x4", num_classes=10)
    parameters = sum(p.numel() for p in net.parameters())
    sums: list[int] = []
    really = dist.all_reduce
    monkeypatch.setattr(dist, "all_reduce", lambda x, *a, **k: (sums.append(x.nbytes), really(x, *a, **k))[1])
    dist.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        optimizer = fr.StreamSGD(net.parameters(), lr=0.1, momentum=chosen.momenta(0.9))
        lg = fr.Logits(net(torch.randn(4, 3, 32, 32)), torch.randn(4, 10), torch.arange(4))
        grads = fr.stream_grads(chosen.stream_losses(lg), net, reduce=fr.AllReduce())
        assert sum(sums) == model.payload(parameters, streams)
        sums.clear()
        with fr.UpdateAllReduce(optimizer):
            optimizer.step(grads)
        assert sum(sums) == model.payload(parameters, streams, update=True)
    finally:
        dist.destroy_process_group()


@every_student
def test_the_students_are_as_large_as_the_model_says(student: model.Student) -> None:
    name, size, classes, package = NAMES[student.name]
    if package:
        pytest.importorskip(package, reason=f"{student.name} is counted with it")
    with torch.device("meta"):
        net = create(name, num_classes=classes).eval()
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        net(torch.zeros(1, 3, size, size, device="meta"))
    assert sum(p.numel() for p in net.parameters()) == student.parameters
    assert round(counted.get_total_flops() / 1e9, 3) == student.gflop


def test_the_page_and_its_picture_say_what_the_model_and_the_rows_say() -> None:
    page, drawing = script("scaling"), script("draw_scaling")
    assert (drawing.STATIC / "scaling.svg").read_text(encoding="utf-8") == drawing.scaling(), (
        "run: python docs/draw_scaling.py"
    )
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run: python docs/scaling.py"
