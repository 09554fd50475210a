"""Training from the command line on images that lie on disk: CIFAR-100's files, a folder, a paper's recipe."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fractionate.cli import main
from fractionate.train import RunFolder

CLASSES = 100
NETS = ["--teacher", "resnet8", "--student", "wrn_16_1"]


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The standard files of CIFAR-100 with two training images and one test image per class."""
    root = tmp_path_factory.mktemp("data")
    folder, random = root / "cifar-100-python", np.random.default_rng(0)
    folder.mkdir()
    for name, each in (("train", 2), ("test", 1)):
        pixels = random.integers(0, 256, (CLASSES * each, 3072), dtype=np.uint8)
        content = {"data": pixels, "fine_labels": list(range(CLASSES)) * each}
        (folder / name).write_bytes(pickle.dumps(content, 4))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"c{i}" for i in range(CLASSES)]}, 4))
    return root


def train(*words: str | Path) -> int:
    return main(["train", *map(str, words)])


def test_a_teacher_is_trained_measured_and_then_imitated(
    cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["cifar100", "--data", cifar, *NETS, "--epochs", "1", "--teacher-epochs", "1", "--out", tmp_path]
    assert train(*words, "--method", "deepkd", "--over", "gdkd") == 0
    out = capsys.readouterr().out
    assert "teacher resnet8: " in out
    facts = RunFolder(tmp_path / "resnet8__wrn_16_1" / "gdkd+deepkd" / "seed-0").summary()
    assert (facts["dataset"], facts["method"], facts["teacher"]) == ("cifar100", "gdkd+deepkd", "resnet8")
    assert f"{facts['teacher_top1']:.2f} % top-1" in out


def test_a_weak_teacher_is_warned_of(cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cifar100", "--data", cifar, "--teacher", "resnet20", "--student", "resnet8", "--out", tmp_path]
    assert train(*words, "--epochs", "1", "--teacher-epochs", "1", "--method", "kd") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "(expected 69.06)" in out
    assert "below the expected 69.06 %: students will learn less from it" in out


def test_a_recipe_of_a_paper_measures_a_teacher_that_is_given(
    cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = "cifar100/kd/resnet56__resnet20/mdistiller"
    weights = tmp_path / "resnet56.pth"
    import torch

    from fractionate.models import create

    torch.save({"model": create("resnet56", num_classes=CLASSES).state_dict()}, weights)
    words = ["--recipe", recipe, "epochs=1", "learning_rate={schedule: constant}", "--data", cifar]
    assert train(*words, "--teacher-checkpoint", weights, "--out", tmp_path / "runs") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "teacher resnet56: " in out
    assert "(expected 72.34)" in out
    assert "below the expected 72.34 %" in out
    run = RunFolder(tmp_path / "runs" / "seed-0").config()
    assert (run.student.name, run.method.args["temperature"], run.optimizer.lr) == ("resnet20", 4, 0.05)


def test_a_validation_part_is_kept_from_teacher_and_student(tmp_path: Path) -> None:
    many = ["digits", "--validation", "epochs=1", "data.passes=1", "--method", "kd", "--out", tmp_path]
    assert train(*many) == 0
    assert RunFolder(tmp_path / "teacher").config().data.evaluate_on == "validation"
    assert RunFolder(tmp_path / "kd" / "seed-0").config().data.evaluate_on == "validation"


def test_a_budget_ends_a_run_that_goes_on_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["digits", "--method", "ce", "epochs=1", "--out", tmp_path]
    assert train(*words, "--budget", "0s") == 75
    assert "the time budget is used up" in capsys.readouterr().err
    assert train(*words, "--resume") == 0
    assert RunFolder(tmp_path / "ce" / "seed-0").finished


def test_any_folder_of_images_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    for part, each in (("train", 40), ("test", 2)):
        for label in ("cat", "dog"):
            (tmp_path / "images" / part / label).mkdir(parents=True)
            for i in range(each):
                pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / label / f"{i}.png")
    (tmp_path / "images" / "train" / "cat" / "0.png").write_bytes(b"cut off")
    assert train("folder", "--data", tmp_path / "images", "--out", tmp_path / "runs") == 2
    assert "0.png" in capsys.readouterr().err
    words = [
        "folder",
        "--data",
        tmp_path / "images",
        "data.size=16",
        "data.skip_broken=true",
        "--teacher",
        "resnet8",
        "--student",
        "resnet8",
    ]
    assert train(*words, "--epochs", "2", "--teacher-epochs", "2", "--out", tmp_path / "runs") == 0
    facts = RunFolder(tmp_path / "runs" / "resnet8__resnet8" / "kd" / "seed-0").summary()
    assert facts["dataset"] == "folder"
