"""Run folders with invented numbers, shaped like real ones. Nothing here was ever trained."""

import json
import math
import random
from pathlib import Path

COMPONENTS = {
    "labels": ["task"],
    "kd": ["task", "kd"],
    "dkd": ["task", "target", "nontarget"],
    "gdkd": ["task", "between", "top", "other"],
    "dkd+dot": ["task", "target", "nontarget"],
    "dkd+deepkd": ["task", "target", "nontarget"],
}
STREAMS = {"dkd+dot": ["task", "distillation"], "dkd+deepkd": ["task", "target", "nontarget"]}
LAST = {"labels": 86.0, "kd": 90.6, "dkd": 92.1, "gdkd": 92.3, "dkd+dot": 92.0, "dkd+deepkd": 91.4}
BINS = 15


def config_text(method, seed):
    return (
        f"dataset: synthetic\nstudent: tiny\nteacher: large\nepochs: 40\nseed: {seed}\n"
        f"method:\n  name: {json.dumps(method)}\n  args:\n    alpha: 1.0\n    beta: 8.0\nlr: 0.05\n"
    )


def epoch_rows(method, seed, epochs):
    draw = random.Random(f"{method} {seed}")
    last = LAST.get(method, 90.0) + draw.gauss(0, 0.5)
    for epoch in range(1, epochs + 1):
        part = 1 - math.exp(-5 * epoch / epochs)
        row = {"epoch": epoch, "train_loss": 2.3 * math.exp(-3 * epoch / epochs)}
        for i, name in enumerate(COMPONENTS.get(method, ["task"])):
            decay = math.exp(-(2.0 + 0.5 * i) * epoch / epochs)
            row[f"component/{name}"] = (2.2 / (1 + 2 * i)) * decay * math.exp(draw.gauss(0, 0.05))
        top1 = 10 + (last - 10) * part + draw.gauss(0, 1.2) * (1 - epoch / epochs)
        row |= {"test_top1": top1, "test_top5": 99.0, "test_loss": 0.5, "agreement": top1 - 2.0}
        row |= {"ece": 0.05, "lr": 0.05, "images_per_s": 9000.0, "seconds": 0.1}
        streams = STREAMS.get(method, ["loss"])
        for i, name in enumerate(streams):
            row[f"gsnr/{name}"] = 0.4 / (1 + i) * math.exp(-epoch / epochs + draw.gauss(0, 0.1))
            for other in streams[i + 1 :]:
                row[f"cosine/{name}|{other}"] = math.tanh(draw.gauss(0.2 - 0.1 * i, 0.1))
        yield row


def bins(method, seed):
    draw = random.Random(f"bins {method} {seed}")
    confidence = [(i + 0.5) / BINS for i in range(BINS)]
    count = [0 if i < 3 else 4 + int(3 * i * draw.random()) for i in range(BINS)]
    count[-1] = 420
    over = 0.12 if method == "labels" else 0.03
    accuracy = [min(1.0, max(0.0, c - over + draw.gauss(0, 0.05))) for c in confidence]
    accuracy = [a if n else None for a, n in zip(accuracy, count, strict=True)]
    return {"confidence": confidence, "accuracy": accuracy, "count": count}


def write_run(folder, method="dkd", seed=0, epochs=40, finished=True, **changes):
    """A run folder; ``changes`` replace fields of its summary (None takes one out)."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    folder.joinpath("config.yaml").write_text(config_text(method, seed), encoding="utf-8")
    rows = list(epoch_rows(method, seed, epochs))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    folder.joinpath("metrics.jsonl").write_text(lines, encoding="utf-8")
    if not finished:
        return folder
    best = max(rows, key=lambda row: row["test_top1"])
    summary = {
        "name": folder.name, "method": method, "dataset": "synthetic", "teacher": "large",
        "student": "tiny", "params": 2410, "teacher_params": 61_706, "teacher_top1": 98.7,
        "last_top1": rows[-1]["test_top1"], "best_top1": best["test_top1"],
        "best_epoch": best["epoch"], "agreement": rows[-1]["agreement"], "ece": 0.04 + 0.01 * seed,
        "calibration": bins(method, seed), "seconds": 4.0 + seed, "seed": seed, "epochs": epochs,
        "backward_passes": len(STREAMS.get(method, ["loss"])), "device": "cpu",
        "git": "synthetic", "versions": {"python": "3.11", "torch": "2.6"},
        "command": f"fractionate train --method {method} --seed {seed}",
    }  # fmt: skip
    summary = {k: v for k, v in (summary | changes).items() if v is not None}
    folder.joinpath("summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def write_study(parent, methods=tuple(COMPONENTS), seeds=3):
    """Run folders of some methods with some seeds each."""
    return [write_run(Path(parent) / f"{method}-{seed}", method, seed) for method in methods for seed in range(seeds)]


def as_schema_1(folder, headline):
    """The same run as newer folders are written, by a task with another headline."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    renamed = {key.replace("_top1", f"_{headline}"): value for key, value in summary.items()}
    (folder / "summary.json").write_text(json.dumps({"schema": 1, "headline": headline, **renamed}), encoding="utf-8")
    rows = (folder / "metrics.jsonl").read_text(encoding="utf-8").replace("test_top1", f"test_{headline}")
    rows = rows.replace('{"epoch"', f'{{"schema": 1, "headline": "{headline}", "epoch"')
    (folder / "metrics.jsonl").write_text(rows, encoding="utf-8")
    return folder
