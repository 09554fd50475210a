"""Write docs/scaling.md: python docs/scaling.py (after python docs/draw_scaling.py)

Measured rows come from the file that ``python -m benchmarks.scaling`` appends to, the others from the model in
benchmarks/communication.py; a test compares the page with what this writes.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from benchmarks.communication import (  # noqa: E402
    BACKWARD,
    CLUSTERS,
    STUDENTS,
    Cluster,
    Student,
    all_reduce,
    efficiency,
    payload,
)
from benchmarks.scaling import GOAL  # noqa: E402
from generate import table  # noqa: E402

PAGE = DOCS / "scaling.md"
RESULTS = DOCS.parent / "benchmarks" / "results" / "scaling.csv"
SCALING, PROCESSOR = ": scaling", ", processor time"
STREAMS, SIZES = 2, (8, 16, 64, 256, 1024)

TEXT = """\
# Scaling

Written by `python docs/scaling.py`; nothing here is typed by hand. How to start a run on many processes is told in
[](distributed.md). The first part was measured, on processes of one machine without a GPU; the second is a model.

## Measured: what the exchange costs

Two processes, one thread each, take the trainer's step (given teacher logits, float32) with and without the exchange,
in interleaved rounds of one run; before, the benchmark makes sure in float64 that every kind of exchange ends with the
weights of one process. Ratios are medians over the rounds, with quartiles. The wall clock runs from a common start
until the last process is done. The processor's time is the work of all threads of both processes, those that send and
receive included, without waiting: {waited} of the wall clock's time without exchange was waiting for the other process,
or for a core that another program had.
Again: `python -m benchmarks.scaling` ({machine}).

{measured}

*No exchange, then wait for each other* is what any synchronous step pays, whatever it exchanges. *The exchange alone*
begins when all have met and has nothing to hide behind. The aim was at most {goal} times the step without exchange.

The same images, by one process and by all of them:

{speedup}

By the wall clock, efficiency is the speed against one process, per process; by processor time, the work of one process
over that of both. Above 100 %: a whole batch takes one process longer per image than its parts take two, by more than
the exchange costs.

## Model: 8 to 1024 GPUs

Nothing below was measured. It is arithmetic on assumptions (`benchmarks/communication.py`), there to show which
quantity decides, and to be run again with numbers of your own.

![Modelled efficiency over the number of GPUs](_static/scaling.svg)

- A step is one forward pass and one backward pass per stream; here {streams} streams, DeepKD's. A backward pass takes
  {backward:g} forward passes. The time of a forward pass is operations x images / assumed speed. Data, teacher (its
  logits are given) and update cost nothing, no process is late, and the images per GPU stay the same.
- A stream's row of gradients is summed while the next stream is differentiated; the last row is waited for. With
  `--sync update` there is one row, after all backward passes, and nothing hides it. All rows are float32.
- A sum over N processes is a ring, or a tree over hosts with a chain inside each, whichever is quicker. A ring takes
  2 (N - 1) / N bytes / width, plus the latencies of the hops; the width is that of the narrowest link on the way.

{students}

{clusters}

Throughput per GPU in percent of one GPU alone, with exchange of gradients / of the update, and the milliseconds that
the sum of one row takes on {few} and on {many} GPUs:

{model}

What decides, in this model:

- **The narrowest link against one backward pass.** All rows but the last are hidden as long as a sum takes no longer
  than a backward pass. Then both kinds of exchange cost the same time, one sum, whatever the number of streams.
- **`--sync update` pays where a sum takes longer than a backward pass**: it sends 1/streams of the bytes.
- **The number of hosts hardly matters** beyond the second one: no process sends more than twice the row's bytes.
- More images per GPU and step make the same exchange rarer; `accumulate` makes room for them.
"""


def page() -> str:
    """The whole page."""
    rows = _latest()
    last = rows[-1]
    return TEXT.format(
        machine=f"{last['cpus']} {last['device']} cores, torch {last['torch']}",
        waited=_waited(rows),
        goal=GOAL,
        measured="\n\n".join(_measured(case, rows) for case in _cases(rows)),
        speedup=table(
            ["step", "what", "ms", "times as fast", "efficiency", "efficiency, processor time"],
            [line for case in _cases(rows) for line in _speedups(case, rows)],
        ),
        streams=STREAMS,
        few=SIZES[0],
        many=SIZES[-1],
        backward=BACKWARD,
        students=_students(),
        clusters=_clusters(),
        model="\n\n".join(_model(cluster) for cluster in CLUSTERS),
    )


def _latest() -> list[dict[str, str]]:
    """The last measured row of every contender of every case."""
    with RESULTS.open(encoding="utf-8", newline="") as file:
        return list({(row["case"], row["contender"]): row for row in csv.DictReader(file)}.values())


def _cases(rows: list[dict[str, str]]) -> list[str]:
    """Without those that are another look at the same rounds."""
    return list(dict.fromkeys(row["case"] for row in rows if not row["case"].endswith((SCALING, PROCESSOR))))


def _measured(case: str, rows: list[dict[str, str]]) -> str:
    """Both clocks beside each other."""
    wall, processor = ({r["contender"]: r for r in rows if r["case"] == name} for name in (case, case + PROCESSOR))
    head = [
        f"{case}; {next(iter(wall.values()))['rounds']} rounds",
        "ms",
        "ratio",
        "ms of processor time, both",
        "ratio",
    ]
    return table(head, [[name, *_numbers(wall[name]), *_numbers(processor[name])] for name in wall])


def _numbers(row: dict[str, str]) -> list[str]:
    low, middle, high = (f"{float(row[name]):.3f}" for name in ("ratio_low", "ratio", "ratio_high"))
    base = row["contender"] == row["against"]
    return [f"{float(row['milliseconds']):,.0f}", "1" if base else f"**{middle}** [{low}, {high}]"]


def _waited(rows: list[dict[str, str]]) -> str:
    """Share of the wall clock's time in which steps without exchange did not run, from least to most."""
    base = {row["case"]: float(row["milliseconds"]) for row in rows if row["contender"] == row["against"]}
    shares = [1 - base[case + PROCESSOR] / base[case] / _processes(case) for case in _cases(rows)]
    return " to ".join(f"{100 * share:.0f} %" for share in dict.fromkeys((min(shares), max(shares))))


def _processes(case: str) -> int:
    return int(case.split(" processes")[0].split()[-1])


def _speedups(case: str, rows: list[dict[str, str]]) -> Iterator[list[str]]:
    """By the wall clock, the speed against one process; by processor time, the work of one against that of all."""
    wall, processor = (
        {r["contender"]: r for r in rows if r["case"] == name + SCALING} for name in (case, case + PROCESSOR)
    )
    for name, row in wall.items():
        faster = 1 / float(row["ratio"])
        shares = [faster / _processes(case), 1 / float(processor[name]["ratio"])]
        shown = ["", ""] if name == row["against"] else [f"{100 * share:.0f} %" for share in shares]
        yield [case, name, _numbers(row)[0], f"{faster:.2f}", *shown]


def _students() -> str:
    head = ["student", "parameters", "GFLOP per image", "images per GPU", "TFLOP/s, assumed", "ms per step, 1 stream"]
    head += [f"{STREAMS} streams", "MB per step, gradients", "update"]
    rows = []
    for s in STUDENTS:
        sums = [payload(s.parameters, STREAMS), payload(s.parameters, STREAMS, update=True)]
        cells = [s.name, f"{s.parameters:,}", f"{s.gflop:g}", f"{s.images}", f"{s.tflops:g}"]
        cells += [*(f"{1e3 * s.step(n):.1f}" for n in (1, STREAMS)), *(f"{x / 1e6:.1f}" for x in sums)]
        rows.append(cells)
    return table(head, rows)


def _clusters() -> str:
    head = ["cluster, assumed", "GPUs per host", "GB/s between GPUs of a host", "GB/s out of a host", "latencies, µs"]
    rows = [[c.name, f"{c.gpus}", *(f"{x / 1e9:g}" for x in (c.inside, c.between)), _latencies(c)] for c in CLUSTERS]
    return table(head, rows)


def _latencies(cluster: Cluster) -> str:
    return f"{1e6 * cluster.inside_latency:g} inside, {1e6 * cluster.between_latency:g} between"


def _model(cluster: Cluster) -> str:
    head = [cluster.name, *(f"{n} GPUs" for n in SIZES), "ms per row"]
    return table(head, [[s.name, *(_both(s, n, cluster) for n in SIZES), _row(s, cluster)] for s in STUDENTS])


def _both(student: Student, processes: int, cluster: Cluster) -> str:
    found = (efficiency(student, STREAMS, processes, cluster, exchange) for exchange in ("gradients", "update"))
    return " / ".join(f"{100 * x:.1f}" for x in found)


def _row(student: Student, cluster: Cluster) -> str:
    few, many = (1e3 * all_reduce(payload(student.parameters, 1), n, cluster) for n in (SIZES[0], SIZES[-1]))
    return f"{few:.2g} to {many:.2g}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
