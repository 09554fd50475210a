"""The table measured again: at toy size it trains, stops in time, goes on, and leaves rows for the page."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import cifar100_table, pace, published, teachers
from safetensors.torch import load_file

from fractionate.config.files import override, to_yaml
from fractionate.config.run import Network
from fractionate.runs.folder import RunFolder
from fractionate.studies.jobs import Job, Options
from fractionate.tasks import Diverged
from fractionate.train.networks import build

sys.path.append(str(Path(__file__).parent.parent / "docs"))
import results

PAIR = (("resnet56", "resnet20"),)


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    folder, random = tmp_path / "data" / "cifar-100-python", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, each in (("train", 10), ("test", 1)):
        labels = [*range(100)] * each
        content = {"data": random.integers(0, 256, (len(labels), 3072), dtype=np.uint8), "fine_labels": labels}
        (folder / name).write_bytes(pickle.dumps(content, 4))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"c{i}" for i in range(100)]}, 4))
    return folder.parent


@pytest.mark.filterwarnings("ignore:deepkd")  # the published code ignores weights, and says so
def test_every_pair_is_compared_with_labels_alone_and_by_published_recipes() -> None:
    entries = list(cifar100_table.plan())
    assert [e.id for e in entries].count(cifar100_table.LABELS) == len(cifar100_table.PAIRS)
    assert {(e.teacher, e.student) for e in entries} == set(cifar100_table.PAIRS)
    for entry in entries:
        run = entry.run(())
        assert run.student.name == entry.student
        assert run.epochs >= 240
    first = [e.folder for e in entries if e.study == "cifar100-resnet32x4__resnet8x4"]
    assert len(set(first)) == len(first) >= 18


def toy_words(cifar: Path, folder: Path) -> list[str]:
    """One seed at toy size, everything written below ``folder``."""
    places = ["--data", str(cifar), "--out", str(folder / "runs"), "--rows", str(folder / "rows")]
    return ["--toy", "--seeds", "1", *places]


@pytest.mark.slow
def test_no_minutes_train_nothing_and_a_few_more_finish(
    cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cifar100_table, "METHODS", cifar100_table.METHODS[:2])
    words = toy_words(cifar, tmp_path)
    cifar100_table.main([*words, "--minutes", "0"], PAIR)
    assert "the time budget is used up" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "rows").exists()
    cifar100_table.main([*words, "--minutes", "5"], PAIR)
    rows = sorted(f.parent for f in (tmp_path / "rows").rglob("summary.json"))
    assert [row.relative_to(tmp_path / "rows").as_posix() for row in rows] == [
        "cifar100-resnet56__resnet20/kd--mdistiller/seed-0",
        "cifar100-resnet56__resnet20/labels/seed-0",
    ]
    assert RunFolder(rows[0]).summary()["teacher"] == "resnet56"
    assert "| `kd` | 1 | " in results.page(tmp_path / "rows")


@pytest.mark.filterwarnings("ignore:deepkd")
def test_the_first_pair_holds_every_method_of_the_table() -> None:
    methods = [str(e.run(()).method) for e in cifar100_table.plan(cifar100_table.PAIRS[:1])]
    for name in ("ce", "kd", "dkd", "gdkd", "mlkd", "crld", "dgkd", "topkd"):
        assert any(m.startswith(f"{name}(") or m == name for m in methods), name
    assert any("+lskd" in m for m in methods)
    for base in ("kd(", "dkd("):
        assert any(m.startswith(base) and "+dot" in m for m in methods), base
    for base in ("kd(", "dkd("):
        for rule in ("paper", "published-code"):
            for masked in (False, True):
                found = [m for m in methods if m.startswith(base) and f"rule='{rule}'" in m and ("keep" in m) == masked]
                assert found, (base, rule, masked)


def job_of(folder: Path) -> Job:
    entry = next(cifar100_table.plan(PAIR))
    return cifar100_table.jobs_of([entry], 1, folder, Network("resnet56"), cifar100_table.TOY)[0]


def test_a_run_whose_row_is_there_is_not_trained_again_unless_its_settings_differ(tmp_path: Path) -> None:
    job, row = job_of(tmp_path), tmp_path / "rows"
    assert not cifar100_table.is_done(job, [row])
    row.mkdir()
    elsewhere = override(job.run, ["data.root=/another/place", "device=cuda", "graph=true", "teacher.checkpoint=x.pth"])
    for run, done in ((elsewhere, True), (override(job.run, ["precision=bfloat16"]), False)):
        (row / "config.yaml").write_text(to_yaml(run))
        assert not cifar100_table.is_done(job, [row])  # it is not finished
        (row / "summary.json").write_text("{}")
        assert cifar100_table.is_done(job, [tmp_path / "none", row]) is done
        (row / "summary.json").unlink()


def test_a_run_that_diverges_stops_no_other_and_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverges(*args: object) -> None:
        job.folder.mkdir(parents=True)
        (job.folder / "DIVERGED.ckpt").touch()
        raise Diverged("the weights are nan")

    job = job_of(tmp_path)
    monkeypatch.setattr(cifar100_table, "run_jobs", diverges)
    for said in ("the weights are nan", "passed over, because it diverged"):  # the second time nothing is run
        assert not cifar100_table.train(job, cifar100_table.Lines(), Options())
        assert said in capsys.readouterr().out


@pytest.mark.slow
def test_a_recipe_is_chosen_on_training_images_and_its_rows_lie_apart(
    cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar100_table, "METHODS", ("cifar100/kd/{pair}/mdistiller",))
    monkeypatch.setattr(cifar100_table, "TEACHERS", tmp_path)
    (tmp_path / "resnet56.safetensors").touch()  # of the published table: it has seen the validation images
    monkeypatch.setattr(cifar100_table, "VALIDATION", tmp_path / "chosen")
    words = toy_words(cifar, tmp_path)[:-2]  # rows go where they usually go
    cifar100_table.main([*words, "--minutes", "5", "--validation"], PAIR)
    (row,) = (RunFolder(f.parent) for f in (tmp_path / "chosen").rglob("summary.json"))
    teacher = RunFolder(tmp_path / "runs" / "validation" / "teacher-resnet56")
    assert row.config().data.evaluate_on == teacher.config().data.evaluate_on == "validation"
    assert row.summary()["dataset"].endswith("(validation part)")


BLOCKED = """
import sys
for name in ("tyro", "rich", "beartype", "sklearn"):
    sys.modules[name] = None
from benchmarks import cifar100_table
cifar100_table.METHODS = cifar100_table.METHODS[:2]
cifar100_table.main(sys.argv[1:], (("resnet56", "resnet20"),))
"""


@pytest.mark.slow
def test_the_table_needs_no_command_line_packages_and_is_shown_beside_published_numbers(
    cifar: Path, tmp_path: Path
) -> None:
    root = Path(__file__).parent.parent
    words = toy_words(cifar, tmp_path)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    for minutes in ("0.02", "5", "5"):  # the last one finds everything done
        done = subprocess.run(
            [sys.executable, "-c", BLOCKED, *words, "--minutes", minutes], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
    page = list(published.lines(tmp_path / "rows" / "cifar100-resnet56__resnet20"))
    assert [line.split(" | ")[:2] for line in page if line.startswith("| `")] == [
        ["| `labels`", "69.06"],
        ["| `cifar100/kd/resnet56__resnet20/mdistiller`", "70.66"],
    ]
    assert page[0].startswith("Teacher: resnet56, ")
    assert "trained for 1 epochs (constant), weights kept in float16." in page[0]
    assert page[1] == "Students: 1 epochs: shortened from 240, so no published number is met."
    assert all("| other length |" in line for line in page if line.startswith("| `"))
    assert published.HEAD in results.page(tmp_path / "rows")

    file = tmp_path / "kept" / "resnet56.safetensors"
    teachers.main([str(tmp_path / "runs"), "--kept", str(tmp_path / "kept")])
    assert {v.dtype for v in load_file(file).values()} == {torch.float16, torch.int64}
    net = build(Network("resnet56", str(file)), 100)
    original = load_file(tmp_path / "runs" / "teacher-resnet56" / "student.safetensors")
    assert all(
        torch.allclose(v.float(), original[k].float(), rtol=1e-3, atol=1e-4) for k, v in net.state_dict().items()
    )
    facts = json.loads((tmp_path / "kept" / "teachers.json").read_text())
    assert facts["resnet56"]["last_top1"] == RunFolder(tmp_path / "runs" / "teacher-resnet56").summary()["last_top1"]
    with pytest.raises(ValueError, match="more than 1,000; name the teachers to keep"):
        teachers.keep_teachers(tmp_path / "runs", tmp_path / "kept", most=1000)
    with pytest.raises(ValueError, match=r"holds the finished teachers \['resnet56'\], not \['vgg13'\]"):
        teachers.keep_teachers(tmp_path / "runs", tmp_path / "kept", names=["vgg13"])


def test_teachers_are_no_part_of_the_package() -> None:
    assert teachers.KEPT == cifar100_table.TEACHERS
    assert not teachers.KEPT.is_relative_to(Path(__file__).parent.parent / "src")
    assert sum(f.stat().st_size for f in teachers.KEPT.glob("*")) <= teachers.MOST


def test_whether_a_mean_lies_within_two_deviations_is_said() -> None:
    assert published._within([70.0, 71.0, 72.0], 72.9) == "yes"
    assert published._within([70.0, 71.0, 72.0], 73.5) == "no (-2.50)"
    assert published._within([70.0], 73.5) == "one seed"
    assert published._within([70.0, 71.0], None) == "–"


@pytest.mark.filterwarnings("ignore:graph=true")
def test_a_pace_without_a_graph_is_not_entered_as_that_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pace, "WAYS", {"as usual": ("graph=true",), "bfloat16": ()})  # those of the toy
    pace.main(["--toy", "--csv", str(tmp_path / "pace.csv")])
    assert "as usual: not measured, because there is no CUDA device" in (said := capsys.readouterr().out)
    assert "the aim, 4 min on a GPU, is not measured" in said
    with (tmp_path / "pace.csv").open(newline="") as file:
        assert [(row["contender"], row["against"]) for row in csv.DictReader(file)] == [("bfloat16", "bfloat16")]
