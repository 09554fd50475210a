"""What a folder holds, and how the run of loose weights showed its images."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from fractionate.config import Data, Detection, MethodSpec, Network, Run, Segmentation, to_yaml
from fractionate.config.task import TaskConfig
from fractionate.probe.images import as_trained, kind_of
from fractionate.tasks import Segmentation as Task
from tests.dense import trees
from tests.detection import trees as boxes

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "masks": trees.masks,
    "cityscapes": trees.cityscapes,
    "ade20k": lambda root: trees.ade20k(root / "ADEChallengeData2016").parent,
    "voc": trees.voc,
    "coco": boxes.coco,
}


def classes(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / name / "1.png")
    return root


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_folder_is_the_set_whose_folders_it_has(kind: str, tmp_path: Path) -> None:
    assert kind_of(LAYOUTS[kind](tmp_path / "set")) == kind


@pytest.mark.parametrize("kind", LAYOUTS)
def test_it_is_that_also_where_a_file_of_it_is_missing_so_that_its_reader_says_why(kind: str, tmp_path: Path) -> None:
    root = LAYOUTS[kind](tmp_path / "set")
    masks = [path for path in root.rglob("*.png") if "images" not in path.parts and "leftImg8bit" not in path.parts]
    masks[0].unlink()
    assert kind_of(root) == kind


def test_parts_with_images_and_masks_in_each_are_a_set_with_masks(tmp_path: Path) -> None:
    image, mask = trees.pair(0, labels=range(3), void=255)
    trees.save(tmp_path / "Train" / "Images" / "1.png", image)
    trees.save(tmp_path / "Train" / "Masks" / "1_mask.png", mask)
    assert kind_of(tmp_path) == "masks"


def test_annotations_of_unknown_names_are_no_masks(tmp_path: Path) -> None:
    root = classes(tmp_path, "images/a", "annotations")
    (root / "annotations" / "boxes.json").write_text("{}")
    assert kind_of(root) == "coco"


@pytest.mark.parametrize("name", ["pets", "my_camvid_photos"])
def test_a_folder_of_classes_stays_one_whatever_its_name(name: str, tmp_path: Path) -> None:
    assert kind_of(classes(tmp_path / name, "cat", "images", "dog")) == "folder"
    assert kind_of(tmp_path / "nowhere") == "folder"
    (tmp_path / "file.txt").write_text("no zip file")
    with pytest.raises(ValueError, match="is no folder and no zip file"):
        kind_of(tmp_path / "file.txt")


def shown(folder: Path, theirs: Data, task: TaskConfig, data: Data, file: str = "student.safetensors") -> Any:
    folder.mkdir(exist_ok=True)
    run = Run(Network("resnet8"), method=MethodSpec("ce"), data=theirs, task=task)
    name = "training.yaml" if file == "model.safetensors" else "config.yaml"
    (folder / name).write_text(to_yaml(run))
    console = Console(file=StringIO(), width=200)
    return *as_trained(data, folder / file, console), console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("file", ["student.safetensors", "model.safetensors"])
def test_the_task_of_a_run_of_masks_comes_with_its_images(file: str, tmp_path: Path) -> None:
    task = Segmentation(evaluate="sliding", stride=0.25, ignore=7)
    theirs, data = Data("masks", "x", multiple=2, crop=(8, 12)), Data("camvid", "y", evaluate_on="validation")
    found, measures, said = shown(tmp_path, theirs, task, data, file)
    assert found == Data("camvid", "y", evaluate_on="validation", multiple=2)
    assert measures == Task(task, window=(8, 12))
    how = "data.multiple=2 task.evaluate=sliding data.crop=[8, 12] task.stride=0.25 task.ignore=7"
    assert said.endswith(f": {how}\n")


@pytest.mark.parametrize(
    ("theirs", "task"),
    [
        (Data("folder", "x", size=8), Segmentation()),
        (Data("coco", "x", size=8, multiple=2), Detection()),
        (Data("masks", "x", multiple=2), Segmentation()),
    ],
)
def test_a_run_of_images_of_another_kind_says_nothing(theirs: Data, task: TaskConfig, tmp_path: Path) -> None:
    own = {"folder": "coco", "coco": "masks", "masks": "coco"}[theirs.name]
    data = Data(own, "y")  # type: ignore[arg-type]
    assert shown(tmp_path, theirs, task, data) == (data, None, "")


def test_other_files_beside_an_export_s_config_are_of_unknown_origin(tmp_path: Path) -> None:
    shown(tmp_path, Data("masks", "x", multiple=2), Segmentation(), Data("masks", "y"), "model.safetensors")
    console = Console(file=StringIO())
    assert as_trained(Data("masks", "y"), tmp_path / "other.pth", console) == (Data("masks", "y"), None)
    (tmp_path / "config.yaml").write_text("student: 3")
    assert as_trained(Data("masks", "y"), tmp_path / "other.pth", console) == (Data("masks", "y"), None)
