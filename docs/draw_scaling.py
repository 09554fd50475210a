"""Draw the picture of the scaling page: python docs/draw_scaling.py

Every point is computed by the model in benchmarks/communication.py; a test compares the file with what this draws.
"""

import math
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from benchmarks.communication import CLUSTERS, PROCESSES, STUDENTS, Cluster, Student, efficiency  # noqa: E402
from draw import LINE, picture, text  # noqa: E402

STATIC = DOCS / "_static"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#a2559c")  # apart for colour-blind eyes, dark enough on white
WIDTH, LEFT, APART, SIDE, TOP, FLOOR = 880, 62, 276, 236, 66, 286
STREAMS = 2


def across(panel: int, processes: int) -> float:
    """Left to right, doubling by doubling."""
    return LEFT + panel * APART + SIDE * math.log2(processes) / math.log2(PROCESSES[-1])


def up(share: float) -> float:
    """Bottom to top, 0 to 1."""
    return FLOOR - (FLOOR - TOP) * share


def frame(panel: int, cluster: Cluster) -> Iterator[str]:
    """Grid, numbers and title of a panel."""
    left, right = across(panel, 1), across(panel, PROCESSES[-1])
    yield text((left + right) / 2, 48, cluster.name, 14, more="font-weight='600'")
    for share in (0, 0.25, 0.5, 0.75, 1):
        yield f"<path d='M{left:g} {up(share):g} H{right:g}' stroke='{LINE}' stroke-width='0.6'/>"
        if panel == 0:
            yield text(left - 8, up(share) + 4, f"{100 * share:.0f} %", 12, "end")
    for n in (1, 8, 64, 1024):
        x = across(panel, n)
        yield f"<path d='M{x:g} {FLOOR} v5' stroke='{LINE}'/>"
        yield text(x, FLOOR + 20, str(n), 12)
    yield text((left + right) / 2, FLOOR + 40, "GPUs", 13)


def curve(panel: int, cluster: Cluster, student: Student, color: str, *, update: bool) -> str:
    """Efficiency over the number of GPUs: a full line for gradients, dashes for the update."""
    exchange = "update" if update else "gradients"
    points = [(across(panel, n), up(efficiency(student, STREAMS, n, cluster, exchange))) for n in PROCESSES]
    path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dashes = " stroke-dasharray='5 4'" if update else ""
    return f"<path d='{path}' fill='none' stroke='{color}' stroke-width='2'{dashes}/>"


def legend() -> Iterator[str]:
    """What the lines are."""
    y = FLOOR + 74
    for i, (student, color) in enumerate(zip(STUDENTS, COLORS, strict=True)):
        x = LEFT + 112 * i
        yield f"<path d='M{x} {y} h26' stroke='{color}' stroke-width='3'/>"
        yield text(x + 32, y + 5, student.name, 13, "start")
    for x, words, dashes in ((540, "gradients", ""), (668, "update", " stroke-dasharray='5 4'")):
        yield f"<path d='M{x} {y} h30' stroke='{LINE}' stroke-width='2'{dashes}/>"
        yield text(x + 38, y + 5, words, 13, "start")


def scaling() -> str:
    """A panel per cluster."""
    parts = [text(LEFT - 44, 26, "throughput per GPU, of that of one GPU alone (a model)", 13, "start")]
    for panel, cluster in enumerate(CLUSTERS):
        parts += frame(panel, cluster)
        for student, color in zip(STUDENTS, COLORS, strict=True):
            parts += [curve(panel, cluster, student, color, update=update) for update in (False, True)]
    title = "Modelled efficiency of a step with two streams on 1 to 1024 GPUs of three clusters"
    return picture(WIDTH, FLOOR + 96, title, [*parts, *legend()])


if __name__ == "__main__":
    (STATIC / "scaling.svg").write_text(scaling(), encoding="utf-8")
