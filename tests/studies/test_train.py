"""Training from the command line on images that lie on disk: CIFAR-100's files, a folder, a paper's recipe."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fractionate.cli import main
from fractionate.config.files import to_yaml
from fractionate.papers.recipes import paper
from fractionate.runs.folder import RunFolder
from fractionate.studies.chosen import for_teacher
from fractionate.studies.usual import knows_nothing

CLASSES = 100
NETS = ["--teacher", "resnet8", "--student", "wrn_16_1"]


def written(root: Path, each: int) -> Path:
    """The standard files of CIFAR-100 with so many training images and one test image per class."""
    folder, random = root / "cifar-100-python", np.random.default_rng(0)
    folder.mkdir()
    for name, count in (("train", each), ("test", 1)):
        pixels = random.integers(0, 256, (CLASSES * count, 3072), dtype=np.uint8)
        content = {"data": pixels, "fine_labels": list(range(CLASSES)) * count}
        (folder / name).write_bytes(pickle.dumps(content, 4))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"c{i}" for i in range(CLASSES)]}, 4))
    return root


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("data"), 2)


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
    assert "that is no more than guessing gives: train it longer (--teacher-epochs N), or at another rate" in out
    lost = "this run ended no better than guessing (kd, seed 0): train longer (--epochs N), or at a lower rate"
    assert lost in out


def test_only_a_run_without_knowledge_is_said_to_have_none() -> None:
    ten = {"images": {"classes": list("abcdefghij")}, "headline": "top1"}
    assert knows_nothing("classification", ten | {"last_top1": 11.9})
    assert not knows_nothing("classification", ten | {"last_top1": 12.1})
    shares = {"road": 90.0, "sky": 10.0}  # all road: an IoU of 90 and one of 0
    assert knows_nothing("segmentation", {"headline": "miou", "class_shares": shares, "last_miou": 46.9})
    assert not knows_nothing("segmentation", {"headline": "miou", "class_shares": shares, "last_miou": 47.1})
    assert knows_nothing("detection", {"headline": "ap", "last_ap": 0.0})
    assert not knows_nothing("detection", {"headline": "ap", "last_ap": 0.2})


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
    assert "that is no more than guessing gives: do these weights know these 100 classes?" in out
    run = RunFolder(tmp_path / "runs" / "seed-0").config()
    assert (run.student.name, run.method.args["temperature"], run.optimizer.lr) == ("resnet20", 4, 0.05)


def test_a_recipe_of_a_paper_trains_its_teacher_where_the_student_is_trained_and_can_be_shortened(
    tmp_path: Path,
) -> None:
    root = written(tmp_path, 6)  # one of them is held out
    words = ["--recipe", "cifar100/dkd/resnet56__resnet20/mdistiller", "teacher=resnet20", "student=resnet8"]
    words += ["--data", root, "--validation", "--epochs", "8", "--teacher-epochs", "1", "threads=1"]
    assert train(*words, "epochs=1", "--out", tmp_path) == 0
    taught, student = (RunFolder(tmp_path / name).config() for name in ("teacher-resnet20", "seed-0"))
    for run in (taught, student):
        assert (run.epochs, run.threads, run.data.root, run.data.evaluate_on) == (1, 1, str(root), "validation")
    assert student.learning_rate.milestones == (5, 6, 7)  # of 8 epochs; epochs=1 changes the length alone
    assert student.method.args["warmup"] == 1
    assert taught.learning_rate.milestones == (1,)


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        (("--method", "kd"), "method=NAME"),
        (("--over", "kd"), "method=NAME"),
        (("--teacher", "resnet8"), "teacher=NAME"),
        (("--student", "resnet8"), "student=NAME"),
    ],
)
def test_an_option_that_a_recipe_or_a_file_leaves_no_room_for_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str], instead: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(paper("cifar100/dkd/resnet56__resnet20/mdistiller").run()))
    for what in (("--recipe", "cifar100/dkd/resnet56__resnet20/mdistiller"), ("--config", config)):
        assert train(*what, *option, "--out", tmp_path / "runs") == 2
        error = capsys.readouterr().err
        assert f"{what[0]} brings this itself: in place of {option[0]}, write {instead}" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", [("--epochs", "2"), ("--data", "x"), ("--validation",), ("--teacher-epochs", "2")])
def test_a_config_file_takes_no_option_that_it_would_ignore(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, ...]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(paper("cifar100/dkd/resnet56__resnet20/mdistiller").run()))
    assert train("--config", config, *option, "--out", tmp_path / "runs") == 2
    assert f"in place of {option[0]}, write " in capsys.readouterr().err


def test_the_stem_of_a_teacher_holds_while_it_is_trained(tmp_path: Path) -> None:
    changes = ["data.root=x", "teacher.stem=small", "teacher.published_bn=true", "optimizer.lr=1", "student.stem=small"]
    assert for_teacher(changes) == ["data.root=x", "student.stem=small", "student.published_bn=true"]


def test_a_teacher_named_by_a_field_is_refused_before_another_one_is_trained(
    cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("cifar100", "--data", cifar, "teacher.name=resnet8", "--out", tmp_path) == 2
    assert "name it by --teacher resnet8" in capsys.readouterr().err
    assert not (tmp_path / "teacher").exists()


def test_a_teacher_is_used_on_whatever_it_was_trained_and_never_mistaken_for_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["digits", "epochs=1", "data.passes=1", "--method", "kd", "--out", tmp_path]
    assert train(*words, "--teacher-epochs", "1") == 0
    written = (tmp_path / "teacher" / "summary.json").read_bytes()
    assert train(*words, "--teacher-epochs", "1", "precision=bfloat16", "device=auto", "--overwrite") == 0
    assert (tmp_path / "teacher" / "summary.json").read_bytes() == written
    capsys.readouterr()
    assert train(*words, "--teacher-epochs", "2") == 2
    assert "holds a finished run with another epochs: choose another folder" in capsys.readouterr().err
    assert train(*words, "--teacher-epochs", "2", "--overwrite") == 0
    assert RunFolder(tmp_path / "teacher").config().epochs == 2


def test_what_cannot_be_learnt_from_any_teacher_is_refused_before_one_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # no sentence of a table is broken
    words = ["digits", "--method", "dist", "accumulate=2"]
    assert train(*words, "--out", tmp_path) == 2
    error = capsys.readouterr().err
    assert "a batch cannot go through in parts" in error
    assert not (tmp_path / "teacher").exists()
    assert main(["doctor", *words]) == 2
    words_of_table = " ".join(word for word in capsys.readouterr().out.split() if word != "│")
    assert "a batch cannot go through in parts" in words_of_table


def test_a_data_set_without_a_recipe_is_pointed_to_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("cifar10") == 2
    assert "take the settings of another: cifar100 data.name=cifar10" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seeds", "--epochs", "--teacher-epochs", "--workers"])
def test_nothing_can_be_done_zero_times(capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert train("digits", option, "0") == 2
    assert f"{option} must be at least 1, got 0" in capsys.readouterr().err


def test_a_validation_part_is_kept_from_teacher_and_student(tmp_path: Path) -> None:
    many = ["digits", "--validation", "epochs=1", "data.passes=1", "--method", "kd", "--out", tmp_path]
    assert train(*many) == 0
    assert RunFolder(tmp_path / "teacher").config().data.evaluate_on == "validation"
    assert RunFolder(tmp_path / "kd" / "seed-0").config().data.evaluate_on == "validation"


def test_where_to_compute_and_how_a_teacher_is_kept_have_options_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRACTIONATE_CACHE", str(tmp_path / "cache"))
    words = ["digits", "epochs=1", "data.passes=1", "--method", "kd", "--out", tmp_path / "runs"]
    assert train(*words, "--teacher-epochs", "1", "--device", "cpu", "--teacher-table", "lazy") == 0
    run = RunFolder(tmp_path / "runs" / "kd" / "seed-0").config()
    assert (run.device, run.teacher_table) == ("cpu", "lazy")
    assert RunFolder(tmp_path / "runs" / "teacher").config().device == "cpu"
    assert any((tmp_path / "cache").rglob("*"))


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


def test_twenty_images_of_any_size_will_do_in_smaller_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "my" / label).mkdir(parents=True)
        for i in range(10):
            pixels = random.integers(0, 256, (*random.integers(16, 40, 2), 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "my" / label / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    words = ["folder", "--data", "my", "--teacher", "resnet8", "--student", "resnet8", "--epochs", "1"]
    assert train(*words, "--teacher-epochs", "1", "data.size=16", "data.batch_size=64") == 2
    assert "data.batch_size is 64, but an epoch shows only 16 images; choose at most 16" in capsys.readouterr().err
    capsys.readouterr()
    assert train(*words, "--teacher-epochs", "1", "data.size=16") == 0  # chosen by the number of images
    found = tmp_path / "runs" / "folder"
    configs = [RunFolder(found / name).config() for name in ("teacher-resnet8", "resnet8__resnet8/kd/seed-0")]
    assert [run.data.batch_size for run in configs] == [8, 8]
    said = capsys.readouterr().out
    shipped = found / "resnet8__resnet8" / "kd" / "exported"
    assert {"README.md", "model.safetensors", "training.yaml"} <= {p.name for p in shipped.iterdir()}
    assert (found / "resnet8__resnet8" / "report.html").is_file()
    assert str(shipped.relative_to(tmp_path) / "README.md") in said
    before = (shipped / "README.md").stat().st_mtime_ns
    assert train(*words, "--teacher-epochs", "1", "data.size=16", "--resume") == 0
    assert (shipped / "README.md").stat().st_mtime_ns == before  # of the very same run


def test_a_folder_of_images_in_place_of_a_recipe_is_answered_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my").mkdir()
    monkeypatch.chdir(tmp_path)
    for words in (["my"], ["folder", "my"]):
        assert train(*words) == 2
        assert "to train on images of your own: fractionate train folder --data my" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "compare"])
@pytest.mark.parametrize("field", ["method=dkd", "method.name=dkd"])
def test_a_method_by_a_field_is_refused_as_its_run_would_bear_another_name(
    command: str, field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "digits", field, "--epochs", "1", "--teacher-epochs", "1", "--out", str(tmp_path / "x")]) == 2
    assert "write --method dkd" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
