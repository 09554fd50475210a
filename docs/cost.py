"""What a loss costs, as a part of the page on numerics: read from the file that ``benchmarks/losses.py`` appends to."""

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from generate import table

COST = """\
## Time and memory

Forward and backward of the distillation terms, as last measured by `python -m benchmarks.losses` ({machine}): median
and quartiles of the ratio to the operations of the published code, and of the ratio to `a + b` on the same logits,
which reads two tensors and writes one.

{times}

Extra peak memory of one loss with its gradient, in a fresh process; the gradient is one of the tensors.

{memory}

Small batches are bound by the number of calls, not by their content. *An empty function* is a Python
`autograd.Function` that computes nothing, differentiated as all others: less than that is not possible from Python.
*Terms free of charge* is the way over the rows, which methods of several streams and weighted rows take, with terms
that compute nothing and a gradient that is there already: checks of the values, weights and means, autograd's engine.
"""
FLOOR, UNIT = ", floor", "one tensor of logits"
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "losses.csv"


def cost() -> str:
    """The latest rows of every case that was also measured against the floor."""
    with RESULTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    last = rows[-1]
    latest = {(row["case"], row["contender"]): row for row in rows}
    known = {case.removesuffix(FLOOR) for case, _ in latest if case.endswith(FLOOR)}
    found = [(row, _ratio(row)) for row in latest.values() if row["against"] != row["contender"]]
    times = [
        [row["case"].removesuffix(FLOOR), row["contender"], row["against"], ratio]
        for row, ratio in found
        if row["case"].removesuffix(FLOOR) in known
    ]
    memory = [[row["case"], row["contender"], ratio] for row, ratio in found if row["against"] == UNIT]
    return COST.format(
        machine=f"{last['cpus']} {last['device']} cores, {last['threads']} thread(s), torch {last['torch']}",
        times=table(["case", "contender", "against", "ratio"], times),
        memory=table(["case", "contender", "tensors"], memory),
    )


def _ratio(row: dict[str, str]) -> str:
    low, middle, high = (f"{float(row[name]):.2f}" for name in ("ratio_low", "ratio", "ratio_high"))
    return middle if int(row["rounds"]) == 1 else f"{middle} [{low}, {high}]"
