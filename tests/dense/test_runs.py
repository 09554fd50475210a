"""The promises of runs hold for a class per pixel: kill -9, several processes, an average, commands, and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

import fractionate as fr
from fractionate.cli import main
from fractionate.config import SGD, Data, LearningRate, MethodSpec, Network, Run, Segmentation, to_yaml
from fractionate.report.page import render
from fractionate.report.runs import read_runs
from fractionate.report.table import table
from fractionate.runs import run_in_folder
from fractionate.runs.folder import RunFolder
from fractionate.tasks import DenseEvaluation
from fractionate.tasks.segmentation import guessing
from fractionate.train.build import prepare
from fractionate.train.loop import Loop
from tests.dense import trees
from tests.killed import killed_and_whole

NET = "tests.dense.nets:plain"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    root = trees.camvid(tmp_path / "camvid")
    return Run(
        student=Network(NET),
        teacher=Network("tests.dense.nets:tiny"),
        method=MethodSpec.parse("dkd(temperature=1, warmup=1)+deepkd"),
        data=Data("camvid", str(root), batch_size=4, passes=2, crop=(16, 16), scale=(0.75, 1.5), flip=True, multiple=4),
        optimizer=SGD(lr=0.05),
        learning_rate=LearningRate("poly", minimum=0.01, per="step"),
        task=Segmentation(),
        epochs=2,
        threads=1,
        device="cpu",
    )


def test_a_run_that_was_killed_goes_on_to_the_same_last_bit(run: Run, tmp_path: Path) -> None:
    again, whole = killed_and_whole(run, tmp_path, step=4)
    keys = ("last_miou", "last_loss", "agreement")
    assert [again[k] for k in keys] == [whole[k] for k in keys]


def _trained(run: Run) -> tuple[list[torch.Tensor], dict[str, float]]:
    (*_, last) = Loop(training := prepare(run)).records()
    numbers = last.columns()
    kept = {k: v for k, v in numbers.items() if k.startswith(("test_", "agree", "train_", "component"))}
    return [p.detach() for p in training.student.parameters()], kept


def _measured(run: Run) -> tuple[dict[str, float], float, float]:
    found = prepare(run).teacher_test
    assert isinstance(found, DenseEvaluation)
    return found.ious, found.miou, found.pixel_accuracy


def _process(rank: int, run: Run, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save((*_trained(run), _measured(run)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("method", [None, "dist(temperature=1)"])  # row by row, and one that compares rows
def test_two_processes_take_the_steps_of_one_and_count_the_same_pixels(
    method: str | None, run: Run, tmp_path: Path
) -> None:
    run = replace(run, data=replace(run.data, batch_size=5))
    run = run if method is None else replace(run, method=MethodSpec.parse(method))
    weights, numbers = _trained(run)
    multiprocessing.spawn(_process, (run, str(tmp_path)), nprocs=2)
    for rank in range(2):
        there, found, measured = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert measured == _measured(run)  # of the same weights: whole numbers, exactly
        for a, b in zip(weights, there, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6)  # float32, summed in another order
        assert found.keys() == numbers.keys()
        assert found["test_loss"] == pytest.approx(numbers["test_loss"], rel=1e-4)
        assert found["train_loss"] == pytest.approx(numbers["train_loss"], rel=1e-4)


def test_an_average_of_the_weights_is_what_is_measured_and_kept(run: Run, tmp_path: Path) -> None:
    facts = run_in_folder(replace(run, ema=0.9), tmp_path / "ema")
    plain = run_in_folder(run, tmp_path / "plain")
    assert facts["ema"] == 0.9
    assert facts["last_loss"] != plain["last_loss"]


def test_the_commands_train_measure_look_export_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = trees.camvid(tmp_path / "camvid"), tmp_path / "runs"
    small = ["data.crop=[16, 16]", "data.scale=[1.0, 1.0]", "data.batch_size=3", "data.multiple=4", "threads=1"]
    nets = ["--teacher", "tests.dense.nets:tiny", "--student", NET]
    words = ["train", "segmentation", *small, "device=cpu", "--data", str(root), *nets, "--method", "gdkd"]
    assert main([*words, "--epochs", "1", "--teacher-epochs", "1", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "mIoU on the test images" in said
    (folder,) = out.rglob("gdkd/seed-0")
    facts = json.loads((folder / "summary.json").read_text())
    assert facts["headline"] == "miou"
    taught = json.loads(next(out.glob("teacher-*/summary.json")).read_text())
    knows_nothing = taught["last_miou"] < guessing(taught["class_shares"]) + 2
    assert ("that is no more than guessing gives: train it longer" in said) == knows_nothing
    assert facts["absent_classes"] == []
    assert {"last_iou/sky", "last_pixel_accuracy", "last_miou_published", "agreement"} <= facts.keys()
    assert main(["evaluate", str(folder), "--out", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["miou"] == pytest.approx(facts["last_miou"], rel=1e-12)
    assert again["agreement"] == pytest.approx(facts["agreement"], rel=1e-12)
    assert main(["doctor", str(folder)]) == 0
    assert "of the pixels have a label" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert main(["export", str(folder), "--out", str(tmp_path / "files")]) == 0
    assert fr.models.load_exported(tmp_path / "files", own_code=True)(
        torch.zeros(1, 3, 20, 28, dtype=torch.uint8)
    ).shape == (1, 11, 10, 14)
    card = (tmp_path / "files" / "README.md").read_text()
    assert "parts of 16 x 16 pixels in training and whole images when it was measured, padded to" in card
    assert "A map of logits of 11 classes comes out, [n, 11, h, w]: sky" in card
    block = (
        card.split("```python")[1]
        .split("```")[0]
        .replace('"FOLDER"', repr(str(tmp_path / "files")) + ", own_code=True")
    )
    exec(block, told := {"images": torch.zeros(1, 3, 20, 28, dtype=torch.uint8)})
    assert told["classes"].shape == (1, 10, 14)
    net = ["--student", NET, "--checkpoint", str(RunFolder(folder).student), "--data", str(root), "--device", "cpu"]
    assert main(["evaluate", *net, "--out", str(tmp_path / "net.json")]) == 0
    assert json.loads((tmp_path / "net.json").read_text()).keys() >= {"miou", "ious", "agreement"}
    page = render(table(read_runs([out])), "Pixels")
    assert page.count("data:image/png;base64,") == 3
    assert "img-src data:" in page
    assert "image, labels, teacher, student, from left to right" in page


def test_pictures_that_are_none_are_left_out_of_the_page(run: Run, tmp_path: Path) -> None:
    run_in_folder(run, tmp_path / "run")
    pictures = tmp_path / "run" / "pictures"
    for file in pictures.glob("*.png"):
        file.write_bytes(b"<script>")
    (pictures / "legend.json").write_text("[" * 10_000)
    page = render(table(read_runs([tmp_path / "run"])), "Pixels")
    assert "data:image" not in page
    assert "img-src" not in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("task.name=classification", "has a class for every pixel; use task.name=segmentation"),
        ("data.crop=[]", "scale needs a crop"),
        ("data.shift=2", "shift is for images with one class each"),
        ("task.logits=head task.labels=nearest", "task.labels"),
        ("teacher_table=lazy", "maps of them; use teacher_table=off"),
        ("task.evaluate=sliding data.crop=[] data.scale=[1.0,1.0]", "needs data.crop"),
        ("method=gram_direction", "compares every pixel with every other"),
    ],
)
def test_settings_that_do_not_fit_end_with_one_line(
    run: Run, change: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(to_yaml(run))
    assert main(["train", "--config", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out"), *change.split()]) == 2
    words = capsys.readouterr().err
    assert said in " ".join(words.split())
    assert "Traceback" not in words
    assert not (tmp_path / "out").exists()


def test_whole_images_are_trained_on_through_the_door_by_teacher_and_student(tmp_path: Path) -> None:
    root, out = trees.camvid(tmp_path / "camvid"), tmp_path / "runs"
    shown = ["data.crop=[]", "data.scale=[1.0, 1.0]", "data.colour=0.0", "data.multiple=4", "data.flip=false"]
    nets = ["--teacher", "tests.dense.nets:tiny", "--student", NET, "--epochs", "1", "--teacher-epochs", "1"]
    words = ["train", "segmentation", *shown, "data.batch_size=3", "threads=1", "device=cpu", "--data", str(root)]
    assert main([*words, *nets, "--no-export", "--out", str(out)]) == 0
    (teacher,), (student,) = out.glob("teacher-*"), out.glob("*__*/kd/seed-0")
    assert RunFolder(teacher).config().data == RunFolder(student).config().data


@pytest.mark.parametrize("seed", [1, 2])
def test_whole_images_of_several_sizes_are_refused_by_name_before_anything_is_written(
    seed: int, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, array in zip(("images", "masks"), trees.pair(7, 24, 36), strict=True):
        trees.save(tmp_path / "camvid" / kind / "train" / "wide.png", array)
    (tmp_path / "run.yaml").write_text(to_yaml(replace(run, seed=seed)))
    words = ["train", "--config", str(tmp_path / "run.yaml"), "data.scale=[1.0, 1.0]", "data.crop=[]"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "seq_000.png is 20 x 28 pixels" in error
    assert "wide.png 24 x 36" in error
    assert "data.crop=[HEIGHT, WIDTH]" in error
    assert not (tmp_path / "out").exists()
    assert main([*words, "--out", str(tmp_path / "out"), "data.multiple=64", "epochs=1"]) == 0  # padded to one size
