"""Random partitions for property tests, in the package's form and in the twins' form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from fractionate.kernels.plain import Group, Partition
from tests.cases import random_logits
from tests.reference.split import Groups


class Problem(NamedTuple):
    """Logits and, for every row and class, the number of the class's group."""

    student: Tensor
    teacher: Tensor
    assignment: list[list[int]]
    groups: int
    temperature: float

    @property
    def partition(self) -> Partition:
        return as_partition(self.assignment, self.groups)

    @property
    def listed(self) -> list[Groups]:
        return as_lists(self.assignment, self.groups)


def as_lists(assignment: list[list[int]], groups: int) -> list[Groups]:
    return [[[c for c, g in enumerate(row) if g == group] for group in range(groups)] for row in assignment]


def as_partition(assignment: list[list[int]], groups: int) -> Partition:
    """Every group but the last, padded to the longest row; the padding names class 0, whoever owns it."""
    listed, classes = as_lists(assignment, groups), len(assignment[0])
    built = []
    for group in range(groups - 1):
        members = [row[group] for row in listed]
        width = max(1, *(len(m) for m in members))
        index = [m + [0] * (width - len(m)) for m in members]
        valid = [[True] * len(m) + [False] * (width - len(m)) for m in members]
        always = all(m for m in members)
        built.append(Group(torch.tensor(index), torch.tensor(valid), first_counts=always))
    return Partition(tuple(built), classes)


@st.composite
def problems(draw: st.DrawFn, *, least_groups: int = 1, most_groups: int = 5) -> Problem:
    """1 to 4 rows of 2 to 8 classes; groups may be empty or of one class."""
    n, c = draw(st.integers(1, 4)), draw(st.integers(2, 8))
    groups = draw(st.integers(least_groups, most_groups))
    row = st.lists(st.integers(0, groups - 1), min_size=c, max_size=c)
    assignment = draw(st.lists(row, min_size=n, max_size=n))
    seed = draw(st.integers(0, 2**20))
    scale = draw(st.sampled_from([0.1, 2.0, 30.0]))
    temperature = draw(st.sampled_from([0.5, 1.0, 4.0, 20.0]))
    student, teacher = (random_logits(n, c, scale, seed + i) for i in range(2))
    return Problem(student.requires_grad_(), teacher, assignment, groups, temperature)


@st.composite
def fusible_problems(draw: st.DrawFn) -> Problem:
    """Partitions that the fused path takes: no row's first group is empty, and the rest never is."""
    n, c, groups = draw(st.integers(1, 4)), draw(st.integers(5, 9)), draw(st.integers(1, 4))
    widths = [draw(st.integers(1, 2)) for _ in range(groups - 1)]
    while sum(widths) >= c:
        widths.pop()
    rows = []
    for _ in range(n):
        order, row = draw(st.permutations(range(c))), [len(widths)] * c
        for group, width in enumerate(widths):
            size = draw(st.integers(1 if group == 0 else 0, width))
            for _ in range(size):
                row[order.pop()] = group
        rows.append(row)
    seed, scale = draw(st.integers(0, 2**20)), draw(st.sampled_from([0.1, 2.0, 30.0]))
    student, teacher = (random_logits(n, c, scale, seed + i) for i in range(2))
    temperature = draw(st.sampled_from([0.5, 1.0, 4.0, 20.0]))
    return Problem(student.requires_grad_(), teacher, rows, len(widths) + 1, temperature)
