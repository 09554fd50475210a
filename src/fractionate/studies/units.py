"""Which jobs go side by side in one process: those of one seed that see the same batches and ask the same teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..config.files import differences
from ..runs.folder import RunFolder
from ..train.device import place
from ..train.lockstep import OWN, shared_part

if TYPE_CHECKING:
    from .jobs import Job

Unit = tuple[int, ...]  # numbers of jobs that go side by side
AT_ONCE = 8  # students whose activations lie in memory together
TEACHER = 1.2  # what asking a live teacher costs, in steps of a student: benchmarks/results/lockstep.csv, on a CPU


def together(jobs: Sequence[Job], at_once: int | None, workers: int, *, resume: bool) -> list[Unit]:
    """The jobs in units, every one of which is trained by one process.

    Args:
        jobs: all of them.
        at_once: at most so many side by side; ``None``: as many as pay.
        workers: processes that take units.
        resume: whether finished runs are left as they are; each is then a unit of its own.

    Returns:
        Numbers of jobs, every unit in the order of the jobs.
    """
    done = [n for n, job in enumerate(jobs) if resume and RunFolder(job.folder).finished]
    groups = _groups(jobs, done)
    most = _paying(jobs, groups, workers) if at_once is None else at_once
    units = [*((n,) for n in done), *(part for group in groups for part in _parts(group, most))]
    return sorted(units)


def said(jobs: Sequence[Job], units: Sequence[Unit]) -> Iterator[str]:
    """A line about the units, if any has more than one job, and one about why runs of one seed are apart."""
    several = [unit for unit in units if len(unit) > 1]
    if not several:
        return
    counts = " and ".join(sorted({str(len(unit)) for unit in several}))
    yield f"side by side, with one teacher and the same batches: {counts} runs at a time (--no-together: one at a time)"
    told = set()
    for unit in units:
        for other in several:
            a, b = jobs[other[0]].run, jobs[unit[0]].run
            fields = [name for name in differences(a, b) if name.partition(".")[0] not in OWN]
            why = ", ".join(fields)
            if a.seed == b.seed and fields and why not in told:
                told.add(why)
                yield f"{b.method.title} is apart from {a.method.title}: other batches or another teacher ({why})"


def _groups(jobs: Sequence[Job], done: Sequence[int]) -> list[list[int]]:
    """Jobs that share what they learn from; in the order of the first of each."""
    groups: list[tuple[object, list[int]]] = []
    for n, job in enumerate(jobs):
        if n in done:
            continue
        part = shared_part(job.run)
        found = next((group for key, group in groups if key == part), None)
        if found is None:
            groups.append((part, [n]))
        else:
            found.append(n)
    return [group for _, group in groups]


def _parts(group: Sequence[int], most: int) -> list[Unit]:
    """A group in as few parts as ``most`` allows, of nearly the same size.

    Example:
        >>> _parts([0, 1, 2, 3, 4], 2)
        [(0,), (1, 2), (3, 4)]
    """
    count = -(-len(group) // max(1, most))
    return [tuple(group[i * len(group) // count : (i + 1) * len(group) // count]) for i in range(count)]


def _paying(jobs: Sequence[Job], groups: Sequence[Sequence[int]], workers: int) -> int:
    """How many side by side end first, on so many processes; 1 where they have no live teacher to share.

    On a GPU they go side by side where steps are recorded as graphs: there it pays by what a GPU does at once, which
    nobody has measured yet, and processes beside each other share the device anyway.
    """
    live = [group for group in groups if any(_asks(jobs[n]) for n in group)]
    if not live:
        return 1
    run = jobs[live[0][0]].run
    if place(run.device).type == "cuda":
        return AT_ONCE if run.graph else 1
    choices = range(1, 1 + min(AT_ONCE, max(map(len, live))))
    return min(choices, key=lambda most: _length([part for group in groups for part in _parts(group, most)], workers))


def _asks(job: Job) -> bool:
    return job.run.method.distils and job.run.teacher_table == "off"


def _length(units: Sequence[Unit], workers: int) -> tuple[float, float]:
    """When the last process ends that takes the next unit whenever it is idle, and the work of all."""
    costs = [TEACHER + len(unit) for unit in units]
    ends = [0.0] * max(1, workers)
    for cost in costs:
        ends[ends.index(min(ends))] += cost
    return max(ends), sum(costs)
