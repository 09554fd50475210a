"""Weights by ``evaluate --student NET --checkpoint FILE``: measured as in their run, in its order of classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fractionate.cli import main
from fractionate.config import SGD, Data, Detection, MethodSpec, Network, Run, Segmentation, to_yaml
from fractionate.runs import run_in_folder
from tests.dense import trees
from tests.detection import trees as boxes

NET = "tests.dense.nets:plain"
NAMES, OTHER = ("road", "car", "sky"), ("sky", "road", "car")
Run_ = tuple[Path, Path, Path]  # folder of the run, of its export, of its images


def swapped(root: Path, to: Path, names: tuple[str, ...] | None = OTHER) -> Path:
    """The same pictures, their classes numbered in another order."""
    shutil.copytree(root, to)
    label = np.arange(256, dtype=np.uint8)
    for old, name in enumerate(NAMES):
        label[old] = OTHER.index(name)
    for file in (to / "masks").rglob("*.png"):
        mask = label[np.array(Image.open(file))]
        Image.fromarray(mask).save(file)
    (to / "classes.txt").unlink()
    if names:
        (to / "classes.txt").write_text("\n".join(names))
    return to


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run_:
    """A run that measures by sliding windows and pads to multiples of 4, not of 32."""
    base = tmp_path_factory.mktemp("loose")
    root = trees.masks(base / "set")
    (root / "classes.txt").write_text("\n".join(NAMES))
    data = Data("masks", str(root), batch_size=4, passes=2, crop=(16, 16), multiple=4)
    task = Segmentation(evaluate="sliding", stride=0.5)
    run = Run(Network(NET), method=MethodSpec("ce"), data=data, task=task, optimizer=SGD(lr=0.05), epochs=1)
    run_in_folder(replace(run, threads=1, device="cpu"), base / "run")
    assert main(["export", str(base / "run"), "--out", str(base / "out"), "--own-code"]) == 0
    return base / "run", base / "out", root


def weights_of(trained: Run_) -> list[Path]:
    run, out, _ = trained
    return [run / "student.safetensors", out / "model.safetensors"]


@pytest.fixture
def measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, dict[str, Any]]]:
    """Exit code, what is said, and the numbers."""

    def call(weights: Path, data: Path, *more: object, net: str = NET) -> tuple[int, str, dict[str, Any]]:
        file = tmp_path / "numbers.json"
        file.unlink(missing_ok=True)
        words = ["evaluate", "--student", net, "--checkpoint", weights, "--data", data, "--device", "cpu", *more]
        code = main([*map(str, words), "--out", str(file)])
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split()), json.loads(file.read_text()) if file.is_file() else {}

    return call


def test_masks_are_measured_as_in_the_run_also_out_of_an_export(trained: Run_, measured: Any, tmp_path: Path) -> None:
    run, _, root = trained
    facts = json.loads((run / "summary.json").read_text())
    how = "data.multiple=4 task.evaluate=sliding data.crop=[16, 16] task.stride=0.5"
    for weights, where in zip(weights_of(trained), ("whose folder the weights lie", "exported from"), strict=True):
        code, said, found = measured(weights, root)
        assert (code, found["miou"], found["loss"]) == (0, facts["last_miou"], facts["last_loss"])
        assert f"{where}: {how}" in said
    alone = shutil.copy(run / "student.safetensors", tmp_path / "weights.safetensors")
    code, said, found = measured(Path(alone), root)
    assert found["loss"] != facts["last_loss"]  # of whole images, which nobody says otherwise
    assert "measured as" not in said


def test_masks_in_another_order_of_classes_are_refused(trained: Run_, measured: Any, tmp_path: Path) -> None:
    other = swapped(trained[2], tmp_path / "other")
    for weights, file in zip(weights_of(trained), ("summary.json", "config.json"), strict=True):
        code, said, found = measured(weights, other)
        assert (code, found) == (2, {})
        path = weights.parent / file
        assert f"the student was trained on other classes or in another order: class 0 is 'road' in {path} and" in said
        assert "and 'sky' here; measure it on images of the same classes in the same order" in said
        assert "Traceback" not in said


def test_the_teacher_that_is_compared_with_has_the_order_of_the_images_too(
    trained: Run_, measured: Any, tmp_path: Path
) -> None:
    run, out, _ = trained
    other = swapped(trained[2], tmp_path / "other")
    alone = Path(shutil.copy(run / "student.safetensors", tmp_path / "weights.safetensors"))
    teacher = ("--teacher", NET, "--teacher-checkpoint", out / "model.safetensors")
    code, said, _ = measured(alone, other, *teacher)
    assert code == 2
    assert "the teacher was trained on other classes or in another order: class 0 is 'road'" in said
    assert measured(alone, other)[0] == 0


def test_masks_whose_classes_have_no_names_are_measured(trained: Run_, measured: Any, tmp_path: Path) -> None:
    unnamed = swapped(trained[2], tmp_path / "unnamed", None)
    assert [measured(weights, unnamed)[0] for weights in weights_of(trained)] == [0, 0]


def test_boxes_in_another_order_of_categories_are_refused(measured: Any, tmp_path: Path) -> None:
    def renumbered(_: str, said: Any) -> None:
        said["categories"] = [{"id": i, "name": n} for i, n in zip(boxes.IDS, ("green", "red", "blue"), strict=True)]

    root = boxes.coco(tmp_path / "coco", change=renumbered)
    save_file({"x": torch.zeros(1)}, tmp_path / "student.safetensors")
    (tmp_path / "summary.json").write_text(json.dumps({"images": {"classes": list(boxes.NAMES)}}))
    code, said, _ = measured(tmp_path / "student.safetensors", root, net="tests.detection.nets:small")
    assert code == 2
    assert "the student was trained on other classes or in another order: class 0 is 'red' in" in said
    assert "and 'green' here" in said


def test_boxes_are_measured_at_the_size_of_the_run_unless_another_is_said(measured: Any, tmp_path: Path) -> None:
    root = boxes.coco(tmp_path / "coco")
    save_file({"x": torch.zeros(1)}, tmp_path / "student.safetensors")  # fits no network: what is said comes before
    data = Data("coco", str(root), size=80, shorter=(48, 64), multiple=16)
    run = Run(Network("fasterrcnn-resnet18"), method=MethodSpec("ce"), data=data, task=Detection())
    (tmp_path / "config.yaml").write_text(to_yaml(run))
    for more, how in (
        ((), "data.size=80 data.shorter=[48, 64] data.multiple=16"),
        (("--size", 96), "data.size=96 data.multiple=16"),
    ):
        _, said, _ = measured(tmp_path / "student.safetensors", root, *more, net="tests.detection.nets:small")
        assert f"measured as in the run in whose folder the weights lie: {how}" in said


def test_a_folder_of_masks_that_cannot_be_read_is_said_as_training_says_it(
    trained: Run_, measured: Any, tmp_path: Path
) -> None:
    root = trees.camvid(tmp_path / "set", train=6)
    for file in list((root / "masks").rglob("*.png")):
        file.rename(file.with_name(f"{file.stem}_mask.png"))
    code, said, _ = measured(weights_of(trained)[0], root)
    assert code == 2
    assert "6 of 6 images have no mask" in said
    assert "lies inside a class" not in said
