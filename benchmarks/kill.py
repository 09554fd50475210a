"""Kill training with SIGKILL at random moments, let it go on, and compare bytes with the unbroken run.

    python -m benchmarks.kill                       25 moments for each of four methods
    python -m benchmarks.kill --points 5 --methods kd
    python -m benchmarks.kill --points 5 --methods kd --paths table-full mixup folder

Every moment is drawn uniformly over the time that an unbroken run takes: while the data are read, inside a step, inside
an evaluation, in the middle of writing a file. Training runs in forks of this process, so that one import serves all.
Exit code 1 if a single byte differs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fractionate.config.data import Data
from fractionate.config.files import override
from fractionate.config.method import MethodSpec
from fractionate.config.optimizers import LearningRate, Optimizer
from fractionate.config.run import Monitors, Network, Run
from fractionate.data.digits import digits
from fractionate.models import create
from fractionate.runs.checkpoint import save_weights
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.train.build import prepare

METHODS = ("kd", "dkd+deepkd(rule=published-code)", "ctkd", "crld")
# What else the data and the teacher may come through, as changes of the config.
PATHS: dict[str, list[str]] = {
    "plain": [],
    "table-lazy": ["teacher_table=lazy"],
    "table-full": ["teacher_table=full"],
    "augmented": ["data.augment=randaugment", "data.passes=2"],
    "mixup": ["data.mixup=0.2", "data.cutmix=1.0"],
    "folder": ["data.name=folder", "data.size=8", "data.labels_per_class=null"],
    **{
        f"loaded-{n}": ["data.name=folder", "data.size=8", "data.labels_per_class=null", f"data.workers={n}", *more]
        for n, more in {
            0: ["data.mixup=0.2", "data.erasing=0.5"],
            1: ["data.cache=true", "data.augment=trivialaugment"],
            3: ["data.repeats=2"],
        }.items()
    },
    "accumulated": ["accumulate=2", "keep=3"],
    "adamw": ["optimizer.name=adamw", "optimizer.lr=0.003", "optimizer.decay=weights", "monitors.update_rms=true"],
}
TIMING = ("seconds", "images_per_s", "data_wait")
PICTURES = ("folder", "loaded-0", "loaded-1", "loaded-3")
SAVE_STEPS = 3


@dataclass(frozen=True)
class Point:
    """One moment: what was killed when, and what came out.

    Args:
        method: method.
        path: of the data, of :data:`PATHS`.
        after: seconds from the start to the kill.
        step: of the checkpoint that was there then; ``None`` if there was none yet.
        equal: whether weights and metrics are those of the unbroken run.
    """

    method: str
    path: str
    after: float
    step: int | None
    equal: bool


def small_run(method: str, folder: Path, path: str = "plain", epochs: int = 3) -> Run:
    """Some epochs of eight steps on the digits, with everything on that has a state."""
    large, small = ("resnet14", "resnet8") if path in PICTURES else ("convnet_8_16", "convnet_4_8")  # colour or grey
    teacher, changes = folder / f"{large}.safetensors", list(PATHS[path])
    if not teacher.exists():
        torch.manual_seed(1)
        save_weights(create(large, num_classes=10), teacher)
    if path in PICTURES:
        changes.append(f"data.root={digits_as_files(folder / 'digits')}")
    spec = MethodSpec.parse(method)
    run = Run(
        student=Network(small),
        teacher=Network(large, checkpoint=str(teacher)),
        method=spec,
        data=Data(
            labels_per_class=4,
            batch_size=5,
            shift=0 if "loaded" in path else 1,
            flip=True,
            strong="cutout" if spec.build().views == 2 else "none",
        ),
        optimizer=Optimizer(lr=0.01),
        learning_rate=LearningRate("cosine", per="step"),
        monitors=Monitors(gsnr_window=5, cosines=True, norms=True),
        epochs=epochs,
        ema=0.9,
        device="cpu",
        threads=1,
    )
    return override(run, changes)


def digits_as_files(folder: Path) -> Path:
    """Five digits of every class as grey pictures, a folder per class."""
    from PIL import Image

    few = digits("train", 5)
    for number, (image, label) in enumerate(zip(few.images, few.target.tolist(), strict=True)):
        place = folder / str(label) / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(place)
    return folder


def train_in_fork(run: Run, folder: Path, kill_after: float | None = None) -> bool:
    """Train, or go on training, in a fork.

    Returns:
        Whether it came to its end, and was not killed before.

    Raises:
        RuntimeError: it failed in any other way.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ["FRACTIONATE_CACHE"] = f"{folder}-cache"  # every run fills a table of its own
            run_in_folder(run, folder, resume=True, save_steps=SAVE_STEPS)
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    ends = None if kill_after is None else time.monotonic() + kill_after
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if ends is not None and time.monotonic() >= ends:
            os.kill(child, signal.SIGKILL)
            ends = None
        time.sleep(0.001)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"training in {folder} failed")
    return True


def outcome(folder: Path) -> tuple[list[dict[str, object]], bytes]:
    """Metrics without timing, and the weights as they lie on disk."""
    run = RunFolder(folder)
    rows = [{k: v for k, v in row.items() if k not in TIMING} for row in run.metrics()]
    return rows, run.student.read_bytes()


def kill_points(method: str, count: int, seed: int, folder: Path, path: str = "plain", epochs: int = 3) -> list[Point]:
    """Kill so many runs, each at a moment of its own, and let each go on to the end."""
    generator = random.Random(f"{method} {seed}")
    run, whole = small_run(method, folder, path, epochs), folder / f"whole-{method}"
    train_in_fork(replace(run, epochs=1), folder / f"first-{method}")
    prepare(replace(run, teacher_table="off"))  # here, so that the forks find the data and all packages in memory
    started = time.monotonic()
    train_in_fork(run, whole)
    length, expected, points = time.monotonic() - started, outcome(whole), []
    while len(points) < count:
        after, target = generator.uniform(0, length), folder / f"{method}-{len(points)}"
        if train_in_fork(run, target, after):  # it was faster than the unbroken one
            target.rename(folder / f"{method}-too-late-{time.monotonic_ns()}")
            continue
        step = _step(target)
        train_in_fork(run, target)
        points.append(Point(method, path, after, step, outcome(target) == expected))
    return points


def _step(folder: Path) -> int | None:
    """Step of the newest checkpoint."""
    for name in ("last.ckpt", "previous.ckpt"):
        if (folder / name).is_file():
            return int(torch.load(folder / name, weights_only=True)["step"])
    return None


def main() -> int:
    """Kill, compare, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=25, help="moments per method")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--paths", nargs="+", default=["plain"], choices=list(PATHS), help="of data and teacher logits")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bad = total = 0
    for method, path in itertools.product(options.methods, options.paths):
        with tempfile.TemporaryDirectory() as folder:
            points = kill_points(method, options.points, options.seed, Path(folder), path)
        bad += sum(not p.equal for p in points)
        total += len(points)
        steps = sorted(-1 if p.step is None else p.step for p in points)
        equal = sum(p.equal for p in points)
        print(f"{method}, {path}: {equal} of {len(points)} equal; went on from steps {steps} (-1: no checkpoint yet)")
    print(f"{total - bad} of {total} runs ended with the bytes of the unbroken one")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
