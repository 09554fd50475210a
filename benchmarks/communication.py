"""A model of what data-parallel steps cost on many GPUs: arithmetic on stated assumptions, not a measurement.

Symbols: N processes, one per GPU, on H = ceil(N / gpus) hosts; B bytes summed per row; w the bandwidth of the narrowest
link, a its latency; S streams; f and b the seconds of a forward and of one backward pass.

    ring                2 (N - 1) / N  B / w  +  2 (N - H) a_inside + 2 (H - 1) a_between
    tree                2 B / w  +  2 (min(N, gpus) - 1) a_inside + 2 ceil(log2 H) a_between
    all-reduce          the quicker of the two
    exposed, update     one all-reduce after the last backward pass
    exposed, gradients  row k starts after backward k and after row k - 1: r + (S - 1) max(0, r - b), r an all-reduce
    efficiency          step / (step + exposed), step = f + S b
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

NUMBER = 4  # bytes of a gradient in float32
BACKWARD = 2.0  # forward passes that one backward pass costs
Exchange = Literal["gradients", "update"]


@dataclass(frozen=True)
class Cluster:
    """Hosts of equal GPUs.

    Args:
        name: for people.
        gpus: per host.
        inside: bytes per second that a GPU sends to another one of its host.
        between: bytes per second that a host sends to other hosts, all its network cards together.
        inside_latency, between_latency: seconds until the first byte arrives.
    """

    name: str
    gpus: int
    inside: float
    between: float
    inside_latency: float
    between_latency: float

    def hosts(self, processes: int) -> int:
        """Hosts that so many processes fill."""
        return math.ceil(processes / self.gpus)


@dataclass(frozen=True)
class Student:
    """A network and its share of a step.

    Args:
        name: network.
        parameters: that are trained.
        gflop: floating-point operations of one image's forward pass, in 10^9 (a multiply and an add are two).
        images: per GPU and step.
        tflops: operations per second that the GPU sustains on it, in 10^12.
    """

    name: str
    parameters: int
    gflop: float
    images: int
    tflops: float

    @property
    def forward(self) -> float:
        """Seconds of a forward pass."""
        return self.gflop * self.images / self.tflops / 1e3

    @property
    def backward(self) -> float:
        """Seconds of one backward pass."""
        return BACKWARD * self.forward

    def step(self, streams: int) -> float:
        """Seconds of a step without exchange."""
        return self.forward + streams * self.backward


def payload(parameters: int, streams: int, *, update: bool = False) -> int:
    """Bytes that every process hands over to be summed in a step."""
    return NUMBER * parameters * (1 if update else streams)


def sent(summed: int, processes: int) -> float:
    """Bytes that every process sends to sum ``summed`` bytes over a ring."""
    return 2 * (processes - 1) / processes * summed


def all_reduce(summed: int, processes: int, cluster: Cluster) -> float:
    """Seconds of one all-reduce: by a ring, or by a tree over hosts with a chain inside each."""
    if processes == 1:
        return 0.0
    hosts = cluster.hosts(processes)
    width = cluster.inside if hosts == 1 else min(cluster.inside, cluster.between)
    chain = 2 * (min(processes, cluster.gpus) - 1) * cluster.inside_latency
    around = 2 * ((processes - hosts) * cluster.inside_latency + (hosts - 1) * cluster.between_latency)
    ring = sent(summed, processes) / width + around
    tree = 2 * summed / width + chain + 2 * math.ceil(math.log2(hosts)) * cluster.between_latency
    return min(ring, tree)


def exposed(student: Student, streams: int, processes: int, cluster: Cluster, exchange: Exchange) -> float:
    """Seconds of a step in which all wait for the network."""
    row = all_reduce(payload(student.parameters, 1), processes, cluster)
    hidden_less = max(0.0, row - student.backward) if exchange == "gradients" else 0.0
    return row + (streams - 1) * hidden_less


def efficiency(student: Student, streams: int, processes: int, cluster: Cluster, exchange: Exchange) -> float:
    """Throughput per GPU, as a fraction of that of one GPU alone with the same images per step."""
    step = student.step(streams)
    return step / (step + exposed(student, streams, processes, cluster, exchange))


NVLINK, PCIE = {"inside": 200e9, "inside_latency": 5e-6}, {"inside": 20e9, "inside_latency": 10e-6}
CLUSTERS = (
    Cluster("NVLink, 8 x 200 Gb/s InfiniBand", 8, between=200e9, between_latency=15e-6, **NVLINK),
    Cluster("PCIe, 100 Gb/s Ethernet", 8, between=10e9, between_latency=40e-6, **PCIE),
    Cluster("PCIe, 25 Gb/s Ethernet", 8, between=2.5e9, between_latency=40e-6, **PCIE),
)
STUDENTS = (
    Student("resnet8x4", 1_233_540, gflop=0.354, images=64, tflops=5),
    Student("resnet18", 11_689_512, gflop=3.628, images=64, tflops=50),
    Student("resnet50", 25_557_032, gflop=8.178, images=64, tflops=50),
    Student("DeiT-Ti", 5_717_416, gflop=2.507, images=64, tflops=50),
)
PROCESSES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
