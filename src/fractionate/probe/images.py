"""The images that loose weights are measured on: what a folder holds, and how the run of the weights showed its own."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import expanded
from ..config.data import Data
from ..config.files import from_yaml
from ..config.ranges import BOXED, DENSE, FOLDERS
from ..config.run import Run
from ..config.task import Segmentation
from ..data.boxes.coco import has_boxes
from ..data.dense.folders import folders_in, has_folder, opened
from ..data.dense.kinds import recognised
from ..data.dense.layouts import MASKS, SPLITS, listed
from ..data.dense.reading import Place
from ..models.exported import WEIGHTS
from ..tasks import Task
from ..train.build import task_of

if TYPE_CHECKING:
    from rich.console import Console

IMAGES = {"images", "image", "imgs"}
OF_A_SET = (
    *("CamVid", "camvid", "trainannot", "leftImg8bit", "gtFine", "ADEChallengeData2016", "annotations/training"),
    *("SegmentationClass", "VOCdevkit", "VOC2012", "VOC2007"),
)  # folders that only a set with a class for every pixel has


def kind_of(place: Path) -> str:
    """Which set the names in a folder or zip file make it: one with boxes, one with masks, or a folder of classes.

    One that is laid out as a set with masks or boxes is that also where it cannot be read: its reader says why.
    """
    if not place.exists():
        return "folder"
    if has_boxes(str(place)):
        return "coco"
    kind = "folder"
    with warnings.catch_warnings():  # what is left out is said when it is read
        warnings.simplefilter("ignore")
        try:
            kind = recognised(place)
            there = len(listed(kind, place, "test"))
        except ValueError:
            there = 0
    return kind if there or kind == "folder" else _meant(opened(expanded(place)), kind)


def _meant(root: Place, kind: str) -> str:
    """What a folder that cannot be read as a set with masks is laid out as."""
    annotations = root / "annotations"
    if annotations.is_dir() and any(place.name.endswith(".json") for place in annotations.iterdir()):
        return "coco"
    return kind if _has_masks(root) else "folder"


def _has_masks(root: Place) -> bool:
    """Whether folders of images and of masks lie there, or those of one of the sets of the field."""
    places = [root, *(place for place in folders_in(root) if place.name.lower() in SPLITS["train"])]
    found = [{place.name.lower() for place in folders_in(base)} for base in places]
    return has_folder(root, *OF_A_SET) or any(IMAGES & names and names & {*MASKS} for names in found)


def as_trained(data: Data, weights: Path, console: Console, *, size: int | None = None) -> tuple[Data, Task | None]:
    """Images shown as those of the run that weights come from, and its task where that says how it measured.

    Args:
        data: which images.
        weights: file in the folder of a run; of masks and boxes, in that of an export too.
        console: where it is said.
        size: as the user says; it goes before the run's.

    Returns:
        ``data`` and ``None`` where there is no such run, or one of images of another kind.
    """
    run, said = _run_of(expanded(weights), exported=data.name in (*DENSE, *BOXED))
    if run is None or not any(data.name in kinds and run.data.name in kinds for kinds in (FOLDERS, DENSE, BOXED)):
        return data, None
    how, task, words = _shown(run, size)
    if how:
        what = "photos" if data.name in FOLDERS else "measured"
        console.print(f"{what} as {said}: {words}", markup=False, highlight=False, soft_wrap=True)
    return replace(data, **how), task


def _run_of(weights: Path, exported: bool) -> tuple[Run | None, str]:
    """The config of the run in whose folder weights lie, or that they were exported from, and what to call it."""
    files = {"config.yaml": "in the run in whose folder the weights lie"}
    if exported and weights.name == WEIGHTS:
        files["training.yaml"] = "in the run that the weights were exported from"
    for name, said in files.items():
        try:
            return from_yaml((weights.parent / name).read_text(encoding="utf-8")), said
        except (OSError, ValueError):
            continue
    return None, ""


def _shown(run: Run, size: int | None) -> tuple[dict[str, Any], Task | None, str]:
    """Fields of the data that decide how images are measured, the task, and both in words."""
    data, task = run.data, run.task
    if data.name in FOLDERS:
        if data.workers is None:
            return {}, None, ""
        how = {key: getattr(data, key) for key in ("size", "workers", "crop_pct", "interpolation")}
        how |= {"size": size} if size else {}
        return how, None, " ".join(f"{key}={value}" for key, value in how.items() if value is not None)
    told: dict[str, Any] = {"data.multiple": data.multiple}
    if data.name in BOXED:
        how = {"size": size or data.size, "shorter": () if size else data.shorter}
        told = {f"data.{key}": list(value) if key == "shorter" else value for key, value in how.items() if value} | told
        return {**how, "multiple": data.multiple}, None, " ".join(f"{key}={value}" for key, value in told.items())
    if isinstance(task, Segmentation):
        told["task.evaluate"] = task.evaluate
        if task.evaluate == "sliding":
            told |= {"data.crop": list(data.crop), "task.stride": f"{task.stride:.4g}"}
        told |= {"task.ignore": task.ignore} if task.ignore != Segmentation().ignore else {}
    words = " ".join(f"{key}={value}" for key, value in told.items())
    return {"multiple": data.multiple}, task_of(run), words
