"""The promises of runs hold for boxes: kill -9, several processes, an average, commands, and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

import fractionate as fr
from fractionate.cli import main
from fractionate.config import SGD, Data, Detection, LearningRate, MethodSpec, Network, Run, to_yaml
from fractionate.models import create
from fractionate.report.page import render
from fractionate.report.runs import read_runs
from fractionate.report.table import table
from fractionate.runs.folder import RunFolder
from fractionate.train.build import prepare
from fractionate.train.loop import Loop
from tests.detection import trees
from tests.killed import killed_and_whole

NET, OTHER = "tests.detection.nets:small", "tests.detection.nets:larger"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    root = trees.coco(tmp_path / "coco", train=7)
    return Run(
        student=Network(NET),
        teacher=Network(OTHER),
        method=MethodSpec.parse("dkd(temperature=1, warmup=1)+deepkd"),
        data=Data("coco", str(root), batch_size=3, size=64, flip=True, colour=0.1),
        optimizer=SGD(lr=0.02, clip=5.0),
        learning_rate=LearningRate("cosine", per="step"),
        task=Detection(),
        epochs=2,
        threads=1,
        device="cpu",
    )


def test_a_run_that_was_killed_goes_on_to_the_same_last_bit(run: Run, tmp_path: Path) -> None:
    run = replace(run, ema=0.9)
    again, whole = killed_and_whole(run, tmp_path, step=2)
    keys = ("last_ap", "last_ap50", "ema")
    assert [again[k] for k in keys] == [whole[k] for k in keys]


def _trained(run: Run) -> tuple[list[torch.Tensor], dict[str, Any], dict[str, Any]]:
    training = prepare(run)
    assert training.teacher_test is not None
    start = training.teacher_test.columns()
    (*_, last) = Loop(training).records()
    kept = {k: v for k, v in last.columns().items() if k.startswith(("train_", "component"))}
    return [p.detach() for p in training.student.parameters()], kept, start


def _process(rank: int, run: Run, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(_trained(run), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["all", "foreground"])
def test_two_processes_take_the_steps_of_one_and_measure_the_same(keep: Any, run: Run, tmp_path: Path) -> None:
    run = replace(run, task=Detection(keep=keep), epochs=1)
    weights, numbers, start = _trained(run)
    multiprocessing.spawn(_process, (run, str(tmp_path)), nprocs=2)
    for rank in range(2):
        there, found, measured = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert measured == pytest.approx(start, rel=1e-6)
        for a, b in zip(weights, there, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)  # float32, summed in another order
        assert found == pytest.approx(numbers, rel=1e-4)


def test_the_commands_train_measure_look_export_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = trees.coco(tmp_path / "coco", train=5, val=3), tmp_path / "runs"
    nets = ["--teacher", OTHER, "--student", NET, "--data", str(root), "--epochs", "1", "--teacher-epochs", "1"]
    words = ["train", "detection", "data.size=64", "data.batch_size=2", "threads=1", "device=cpu", *nets]
    assert main([*words, "--method", "gdkd(k=2)", "--out", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(f"{root}: boxes in COCO's format: 3 classes (")
    assert "), 4 images to train on, 3 to measure on" in said  # one of the five has no box
    assert "AP on the test images" in said
    (taught,) = (json.loads(file.read_text()) for file in out.glob("teacher-*/summary.json"))
    assert ("that is no more than guessing gives: train it longer" in said) == (taught["last_ap"] < 0.1)
    (folder,) = out.rglob("gdkd*/seed-0")
    facts = json.loads((folder / "summary.json").read_text())
    assert facts["headline"] == "ap"
    assert {"last_ap", "last_ap50", "last_ap75", "teacher_ap", "absent_classes"} <= facts.keys()
    assert main(["evaluate", str(folder), "--out", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text())["ap"] == pytest.approx(facts["last_ap"], rel=1e-9)
    assert main(["doctor", str(folder)]) == 0
    assert "boxes in 4 images" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert main(["export", str(folder), "--out", str(tmp_path / "files")]) == 0
    (said,) = fr.models.load_exported(tmp_path / "files", own_code=True)(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert said.keys() >= {"boxes", "labels", "scores"}
    card, config = ((tmp_path / "files" / name).read_text() for name in ("README.md", "config.json"))
    assert "logits" not in card.lower()
    assert "a longer side of 64 pixels in training" in card
    assert "label l is `classes[l - 1]` of the 3 categories: red" in " ".join(card.split())
    assert "classes[l - 1]" in json.loads(config)["labels"]
    block = (
        card.split("```python")[1]
        .split("```")[0]
        .replace('"FOLDER"', repr(str(tmp_path / "files")) + ", own_code=True")
    )
    exec(block, told := {"images": torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)})
    assert [len(one) for one in told["names"]] == [len(one["labels"]) for one in told["found"]]
    net = ["--student", NET, "--checkpoint", str(RunFolder(folder).student), "--data", "coco", "--root", str(root)]
    assert main(["evaluate", *net, "--size", "64", "--device", "cpu", "--out", str(tmp_path / "net.json")]) == 0
    assert json.loads((tmp_path / "net.json").read_text())["ap"] == pytest.approx(facts["last_ap"], rel=1e-9)
    capsys.readouterr()
    assert main(["export", str(folder), "--out", str(tmp_path / "onnx"), "--format", "onnx"]) == 2
    assert "a detector returns boxes" in " ".join(capsys.readouterr().err.split())
    assert main(["predict", str(folder), str(root / "val2017" / "000000001000.png")]) == 2
    assert "was trained for detection" in " ".join(capsys.readouterr().err.split())
    page = render(table(read_runs([out])), "Boxes")
    assert page.count("data:image/png;base64,") == 3
    assert "image, objects, teacher, student, from left to right" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("task.name=classification", "has boxes; use task.name=detection"),
        ("data.name=folder data.colour=0.0", "needs boxes: data.name must be one of coco"),
        ("data.crop=[32,32]", "would cut boxes"),
        ("data.shift=2", "shift is for images with one class each"),
        ("teacher_table=lazy", "those of regions; use teacher_table=off"),
        ("task.keep=foreground accumulate=2", "use accumulate=1"),
        ("compile_teacher=true", "a detector runs in parts"),
        ("task.features=1.0", "same +fpnN"),
        ("student=resnet8", "no detector of two stages"),
        ("method=gram_direction", "compares every region with every other"),
    ],
)
def test_settings_that_do_not_fit_end_with_one_line(
    run: Run, change: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(to_yaml(run))
    assert main(["train", "--config", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out"), *change.split()]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def _crowds(part: str, said: dict[str, Any]) -> None:
    for one in said["annotations"] if part == "val2017" else ():
        one["iscrowd"] = 1


def _alone(part: str, said: dict[str, Any]) -> None:
    if part == "val2017":
        said.update(images=said["images"][:1], annotations=[])


@pytest.mark.parametrize(
    ("change", "part", "said"),
    [(_crowds, "test", "there is nothing to measure"), (_alone, "validation", "are too few to hold out a tenth")],
)
def test_images_that_nothing_can_be_measured_on_end_with_one_line_and_leave_no_run(
    change: Any, part: Any, said: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = trees.coco(tmp_path / "own", 6, change=change)
    data = replace(run.data, root=str(root), evaluate_on=part)
    run = replace(run, method=MethodSpec.parse("ce"), teacher=None, data=data)  # a teacher is measured before that
    (tmp_path / "run.yaml").write_text(to_yaml(run))
    assert main(["train", "--config", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "out")]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert said in last
    assert not list((tmp_path / "out").rglob("config.yaml"))


def test_networks_go_by_name_with_a_few_options() -> None:
    net: Any = create("fasterrcnn-mobilenet_v3_small+fpn16+proposals30+anchors8", num_classes=3).eval()
    assert net.backbone.out_channels == 16
    assert net.roi_heads.box_predictor.cls_score.out_features == 4
    assert net.rpn.anchor_generator.sizes == ((8,), (16,), (32,), (64,), (128,))
    with torch.no_grad():
        features = net.backbone(torch.zeros(1, 3, 64, 64))
    assert [x.shape[2] for x in features.values()] == [16, 8, 4, 2, 1]
    with torch.device("meta"):
        larger: Any = create("fasterrcnn-resnet101", num_classes=80)
        theirs: Any = create("torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", num_classes=80)
    assert [x.roi_heads.box_predictor.cls_score.out_features for x in (larger, theirs)] == [81, 81]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fasterrcnn-resnet19", "unknown backbone"),
        ("fasterrcnn-resnet18+wide2", r"expected \+fpnN"),
        ("fasterrcnn-resnet18+fpn0", r"got \+fpn0"),
        ("torchvision:fcos_resnet50_fpn", "no second stage"),
    ],
)
def test_other_names_are_refused_in_words(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        create(name, num_classes=3)


def test_a_teacher_is_shown_images_as_its_students_are(tmp_path: Path) -> None:
    """A mirrored digit is none, and an object of another size another object: said of the images, it holds for both."""
    root, out = trees.coco(tmp_path / "coco", train=5, val=3), tmp_path / "runs"
    shown = ["data.size=80", "data.shorter=[48, 64]", "data.flip=false", "data.colour=0.1"]
    nets = ["--teacher", OTHER, "--student", NET, "--data", str(root), "--epochs", "1", "--teacher-epochs", "1"]
    words = ["train", "detection", *shown, "data.batch_size=2", "data.passes=2", "threads=1", "device=cpu", *nets]
    assert main([*words, "--no-export", "--out", str(out)]) == 0
    (teacher,), (student,) = out.glob("teacher-*"), out.glob("*__*/kd/seed-0")
    theirs, own = (RunFolder(place).config().data for place in (teacher, student))
    assert theirs == replace(own, passes=1)  # how long a run is, is its own
