"""Distil a small language model on a text that Python ships: the docstrings of its standard library, byte by byte.

Run ``python -m benchmarks.text [--minutes 30]``; the same command goes on where it was stopped, and rows that are in
the CSV are not computed again. The first run trains the teacher and keeps its weights, in float16, beside the CSV; all
students learn from these. For every method one setting, the weight of the labels' cross-entropy, is chosen by the
validation loss of seed 0; the test part chooses nothing. ``python docs/text_study.py`` writes the page's table.
"""

from __future__ import annotations

import argparse
import csv
import math
import platform
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import fractionate as fr

from .byte_text import CONTEXT, Bytes, parts
from .record import _commit

RESULTS = Path(__file__).parent / "results"
BATCH = 8
TEACHER, STUDENT = (128, 4), (40, 2)  # width, layers: about 0.84 and 0.05 million parameters
LESSON = 2400  # windows that the students see, of what the teacher has seen
EXAM = 600  # windows of the validation and of the test part
CE_WEIGHTS = (1.0, 0.1)
SEEDS = (0, 1, 2)
LABELS = "labels alone"
M = fr.methods
# Everything at temperature 1 and as the package has it; `task` is the cross-entropy with the next byte.
METHODS = {
    "kd": partial(M.kd, temperature=1.0, kd_weight=1.0),
    "reverse": partial(M.kd, temperature=1.0, kd_weight=1.0, direction="reverse"),
    "jsd": partial(M.kd, temperature=1.0, kd_weight=1.0, direction="jsd"),
    "dkd": partial(M.dkd, temperature=1.0, warmup=1),
    "tad": M.tad,
    "drkl": M.drkl,
    "gdkd": partial(M.gdkd, temperature=1.0, warmup=1),
}


@dataclass(frozen=True)
class Row:
    """One model: what it was trained with, and how well it predicts the next byte (losses in nats)."""

    method: str
    ce_weight: float
    seed: int
    steps: int
    params: int
    validation_loss: float
    validation_agreement: float | None
    test_loss: float
    test_agreement: float | None
    seconds: float
    text: str
    commit: str
    torch: str
    python: str
    machine: str


# -- training --------------------------------------------------------------------------------


def train(
    net: nn.Module, method: fr.Method, windows: Tensor, taught: Tensor | None, passes: int, lr: float, seed: int
) -> int:
    """Steps of AdamW over all windows, in an order of this seed; the teacher's logits are stored in float16."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.1)
    steps, warm = passes * (len(windows) // BATCH), 50
    plan = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min((t + 1) / warm, 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * t / steps)))
    )
    random = torch.Generator().manual_seed(seed)
    for epoch in range(1, passes + 1):
        order = torch.randperm(len(windows), generator=random)
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            logits = net(windows[batch, :-1])
            seen = logits.detach() if taught is None else taught[batch].float()
            rows = fr.rows.tokens(logits, seen, windows[batch, 1:])
            optimizer.zero_grad()
            method.loss(rows, fr.Progress(epoch=epoch, epochs=passes)).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            plan.step()
    return steps


@torch.no_grad()
def every(net: nn.Module, windows: Tensor) -> Tensor:
    """Logits ``[n, 128, 256]`` of all windows, in float16."""
    return torch.cat([net(part[:, :-1]).half() for part in windows.split(32)])


@torch.no_grad()
def judged(net: nn.Module, windows: Tensor, taught: Tensor | None) -> tuple[float, float | None]:
    """Cross-entropy with the next byte, and how often the best byte is the teacher's, in percent."""
    loss = agreed = 0.0
    for i, part in enumerate(windows.split(32)):
        logits = net(part[:, :-1])
        loss += float(F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum"))
        if taught is not None:
            agreed += float((logits.argmax(2) == taught[32 * i : 32 * i + len(part)].argmax(2)).sum())
    count = windows.shape[0] * CONTEXT
    return round(loss / count, 5), None if taught is None else round(100 * agreed / count, 3)


# -- the study -------------------------------------------------------------------------------


def labels_alone() -> fr.Method:
    """The cross-entropy with the next byte."""
    return fr.only(M.kd(ce_weight=1.0), ["task"])


def entries(rows: Sequence[Row]) -> Iterator[tuple[str, float, int]]:
    """Method, weight and seed of every student in turn; looks at the rows that are there by then."""
    for seed in SEEDS:
        yield LABELS, 1.0, seed
    for name in METHODS:
        for weight in CE_WEIGHTS:
            yield name, weight, SEEDS[0]
    for seed in SEEDS[1:]:
        for name in METHODS:
            yield name, chosen(rows, name), seed


def chosen(rows: Sequence[Row], method: str) -> float:
    """The weight with the smaller validation loss of the first seed."""
    tried = [row for row in rows if row.method == method and row.seed == SEEDS[0]]
    return min(tried, key=lambda row: row.validation_loss).ce_weight


def read(path: Path) -> list[Row]:
    """The rows of a CSV, empty if it is not there."""
    if not path.exists():
        return []
    kinds = {f.name: {"int": int, "float": float, "float | None": _maybe}.get(str(f.type), str) for f in fields(Row)}
    with path.open(newline="") as file:
        return [Row(**{name: kinds[name](text) for name, text in line.items()}) for line in csv.DictReader(file)]


def _maybe(text: str) -> float | None:
    return float(text) if text else None


def write(row: Row, path: Path) -> None:
    """One more row."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(asdict(row))


@dataclass(frozen=True)
class Study:
    """Where a study lies, and its sizes; those of a test are smaller."""

    csv: Path = RESULTS / "text.csv"
    weights: Path = RESULTS / "text-teacher.safetensors"
    lesson: int = LESSON
    exam: int = EXAM
    passes: tuple[int, int] = (2, 3)  # of the teacher over all windows, of a student over its lesson
    sizes: tuple[tuple[int, int], tuple[int, int]] = (TEACHER, STUDENT)

    def run(self, windows: Mapping[str, Tensor], text: str, until: float = math.inf) -> None:
        """Everything that is not in the CSV yet, until this time of ``time.monotonic``."""
        windows = {part: x if part == "train" else x[: self.exam] for part, x in windows.items()}
        teacher, rows = self.teacher(windows, text), read(self.csv)
        if other := [row for row in rows if row.text != text]:
            raise ValueError(
                f"{self.csv} holds rows of another text ({other[0].text}, this one is {text}): move it away"
            )
        windows["train"] = windows["train"][:: len(windows["train"]) // self.lesson][: self.lesson]
        taught = {part: every(teacher, x) for part, x in windows.items()}
        for entry in entries(rows):
            if any((row.method, row.ce_weight, row.seed) == entry for row in rows):
                continue
            if time.monotonic() > until:
                print("the time is used up; the same command goes on", flush=True)
                return
            rows.append(self.student(*entry, windows, taught, text))
            write(rows[-1], self.csv)

    def teacher(self, windows: Mapping[str, Tensor], text: str) -> nn.Module:
        """The teacher with the weights that are kept; trained first if there are none."""
        torch.manual_seed(0)
        net = Bytes(*self.sizes[0])
        if not self.weights.exists():
            begun = time.perf_counter()
            steps = train(net, labels_alone(), windows["train"], None, self.passes[0], 2e-3, 0)
            save_file({name: x.half() for name, x in net.state_dict().items()}, self.weights)
            write(self.row(net, ("teacher", 1.0, 0, steps), windows, None, begun, text), self.csv)
        net.load_state_dict(load_file(self.weights))
        return net.eval()

    def student(
        self,
        name: str,
        weight: float,
        seed: int,
        windows: Mapping[str, Tensor],
        taught: Mapping[str, Tensor],
        text: str,
    ) -> Row:
        """One student, trained and judged."""
        begun = time.perf_counter()
        torch.manual_seed(seed)
        net = Bytes(*self.sizes[1])
        method = labels_alone() if name == LABELS else METHODS[name](ce_weight=weight)
        steps = train(net, method, windows["train"], taught["train"], self.passes[1], 4e-3, seed)
        return self.row(net, (name, weight, seed, steps), windows, taught, begun, text)

    def row(
        self,
        net: nn.Module,
        made: tuple[str, float, int, int],
        windows: Mapping[str, Tensor],
        taught: Mapping[str, Tensor] | None,
        begun: float,
        text: str,
    ) -> Row:
        """What is written about a model, and said."""
        exams = [
            judged(net, windows[part], None if taught is None else taught[part]) for part in ("validation", "test")
        ]
        where = (text, _commit(), torch.__version__, platform.python_version(), platform.machine())
        seconds = round(time.perf_counter() - begun, 1)
        found = Row(*made, sum(p.numel() for p in net.parameters()), *exams[0], *exams[1], seconds, *where)
        print(
            f"{found.method:13} labels x {found.ce_weight:<4g} seed {found.seed}: {found.validation_loss:.4f} nats on "
            f"validation, {found.test_loss:.4f} on test, agreement {found.test_agreement} %, {seconds:.0f} s",
            flush=True,
        )
        return found


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.text", description=__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, default=math.inf, help="begin no further model after this time")
    minutes = options.parse_args(arguments).minutes
    torch.set_num_threads(1)
    print("reading the docstrings of the standard library", flush=True)
    windows, text = parts(Path(sysconfig.get_path("stdlib")))
    sizes = ", ".join(f"{len(x) * CONTEXT:,} bytes {part}" for part, x in windows.items())
    print(f"text {text} of Python {platform.python_version()}: {sizes}", flush=True)
    Study().run(windows, text, time.monotonic() + 60 * minutes)


if __name__ == "__main__":
    main()
