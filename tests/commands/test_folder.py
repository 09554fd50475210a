"""A folder of photos by the commands, as its owner calls them: kept pixels, one's own teacher, a library's networks."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fractionate.cli import main
from fractionate.commands.train import Train
from fractionate.config.method import MethodSpec
from fractionate.config.optimizers import SGD, LearningRate
from fractionate.config.run import Network, Run
from fractionate.data import images
from fractionate.models import create
from fractionate.recipes import folder
from fractionate.runs.checkpoint import save_weights
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.tasks import Diverged

CLASSES = 4
SMALL = ("data.size=16", "data.batch_size=16", "--epochs", "1", "--device", "cpu")


def photos(root: Path, count: int) -> Path:
    """Noise in colours and with a dark edge by class."""
    rng = np.random.default_rng(0)
    for c in range(CLASSES):
        (root / f"class-{c}").mkdir(parents=True)
        for i in range(count // CLASSES):
            a = rng.integers(0, 255, (64, 80, 3))
            a[..., c % 3] = a[..., c % 3] // 2 + 60 * (c % 2)
            a[:, : 20 * c] //= 2
            Image.fromarray(a.astype(np.uint8)).save(root / f"class-{c}" / f"{i}.jpg")
    return root


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("few"), 48)


def test_pictures_are_decoded_for_the_first_run_and_kept_for_the_next(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRACTIONATE_CACHE", str(tmp_path / "cache"))
    words = ["train", "folder", "--data", str(few), "--method", "ce", "--student", "resnet8", *SMALL]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache" / "pictures").rglob("*") if p.is_file()}
    assert kept
    monkeypatch.setattr(images, "read_image", lambda *_: pytest.fail("decoded again"))
    assert main([*words, "--out", str(tmp_path / "b")]) == 0
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    a, b = (next((tmp_path / name).rglob("student.safetensors")).read_bytes() for name in "ab")
    assert a == b


def test_methods_are_compared_on_one_s_own_pair_and_the_teacher_is_not_trained(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    save_weights(create("resnet20", num_classes=CLASSES), tmp_path / "mine.safetensors")
    words = ["compare", "folder", "--data", str(few), "--teacher", "resnet20", "--student", "resnet8", *SMALL]
    given = ["--teacher-checkpoint", str(tmp_path / "mine.safetensors"), "--methods", "ce", "dkd", "--seeds", "2"]
    assert main([*words, *given, "--workers", "1", "--out", str(tmp_path / "runs")]) == 0
    found = [RunFolder(path.parent) for path in sorted((tmp_path / "runs").rglob("summary.json"))]
    assert [(run.summary()["method"], run.summary()["seed"]) for run in found] == [
        (method, seed) for method in ("labels alone", "dkd") for seed in (0, 1)
    ]
    teachers = [run.config().teacher for run in found]
    assert {(t.name, t.checkpoint) for t in teachers if t} == {("resnet20", str(tmp_path / "mine.safetensors"))}
    assert list((tmp_path / "runs").rglob("report.html"))
    assert "that is no more than guessing gives" in " ".join(capsys.readouterr().out.split())


def test_a_library_s_pair_does_not_diverge_at_a_folder_s_settings_and_does_at_the_field_s(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    root = photos(tmp_path / "photos", 128)

    def here(run: Run) -> Run:
        return replace(run, data=replace(run.data, size=32, cache=False), threads=1, device="cpu")

    first = here(folder.teacher(name="timm:resnet18", epochs=1, root=str(root)))
    run_in_folder(first, tmp_path / "teacher")
    taught = Network(first.student.name, str(tmp_path / "teacher" / "student.safetensors"))
    name = "timm:mobilenetv3_small_050"
    run = here(folder.student(MethodSpec("dkd"), taught, name=name, epochs=2, root=str(root)))
    assert run_in_folder(run, tmp_path / "student")["skipped"] == 0
    with pytest.raises(Diverged, match=r"lower optimizer.lr, bound the gradients \(optimizer.clip=1\)"):
        run_in_folder(replace(run, optimizer=SGD(lr=0.1), learning_rate=LearningRate("cosine")), tmp_path / "field's")


def test_a_folder_alone_is_looked_at_by_the_doctor(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--method", "ce", "--student", "resnet8", "data.size=16", "data.cache=false", "--out", str(tmp_path)]
    assert main(["doctor", "--data", str(few), *words]) == 0
    assert "48 pictures of 4 classes" in (said := capsys.readouterr().out)
    assert "one step" in said


def test_a_library_that_is_not_installed_is_said_before_torch_is_loaded(
    few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not there
    monkeypatch.setattr(Train, "__call__", lambda *_: pytest.fail("went on to train"))
    words = ["train", "folder", "--data", str(few), "--teacher", "timm:resnet18", "--student", "resnet8"]
    assert main(words) == 2
    assert "model 'timm:resnet18' needs the package 'timm', which is not installed" in capsys.readouterr().err
