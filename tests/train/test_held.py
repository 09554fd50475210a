"""Properties that small changes of the code had slipped past: training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fractionate.train.boxes import boxes
from torch import nn

import fractionate as fr
from fractionate.config.data import Data
from fractionate.config.files import to_yaml
from fractionate.config.run import Network
from fractionate.data import Normalization, Photos, SmallImages
from fractionate.models import Preprocessing
from fractionate.train import log
from fractionate.train.lockstep import Common
from fractionate.train.pixels import wanted_by
from fractionate.train.sources import SETS, evaluation_source
from tests.data import photo_trees
from tests.detection import trees
from tests.train.runs import tiny

WANTED = Preprocessing((12, 12), mean=(0.25,), std=(0.125,))


def with_preprocessing(num_classes: int) -> nn.Module:
    net = nn.Linear(4, num_classes)
    net.preprocessing = WANTED
    return net


def small(count: int = 6) -> SmallImages:
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4).clone()
    return SmallImages(images, torch.arange(count) % 3, 3, Normalization((0.5,), (0.5,)), batch_size=2, shift=1)


def test_the_share_of_waiting_is_that_of_the_time_since_the_epoch_began(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(log.time, "perf_counter", lambda: now[0])
    epoch = log.EpochLog(fr.methods.kd())
    epoch.begin(0.1)

    def slow() -> Any:
        for batch in range(2):
            now[0] += 1
            yield batch

    for _ in epoch.waiting(slow()):
        now[0] += 3
    assert epoch.data_wait == pytest.approx(2 / 8)
    assert epoch.seconds == pytest.approx(8)


def test_a_draw_is_made_into_images_once_for_all_who_go_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    before = SmallImages.shown
    monkeypatch.setattr(SmallImages, "shown", lambda self, draw: made.append(draw) or before(self, draw))
    source, common = small(), Common()
    first, second = list(source.draws(1))[:2]
    images = [common.shown(source, draw).images for draw in (first, first, second)]
    assert [a is b for a, b in zip(made, (first, second), strict=True)] == [True, True]
    assert images[0] is images[1]
    assert torch.equal(images[2], before(source, second).images)


def test_images_with_boxes_are_trained_on_and_measured_at_the_size_of_the_config(tmp_path: Path) -> None:
    data = Data("coco", root=str(trees.coco(tmp_path)), size=32, batch_size=2)
    for source in boxes(data, 0, torch.device("cpu")):
        assert next(iter(source.batches(1))).images.shape[2:] == (32, 32)


@pytest.mark.parametrize(("said", "expected"), [(None, WANTED), ("data", None)])
def test_weights_of_an_unfinished_run_see_pixels_as_it_began(said: Any, expected: Any, tmp_path: Path) -> None:
    name = "tests.train.test_held:with_preprocessing"
    (tmp_path / "config.yaml").write_text(to_yaml(tiny("ce", student=Network(name, preprocessing=said))))
    config = Network(name, checkpoint=str(tmp_path / "student.safetensors"))
    source = small()
    assert wanted_by(with_preprocessing(3), config, source.normalization, source, "teacher") == expected


def test_images_are_measured_in_memory_or_as_photos_as_they_are_trained_on(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label, name in enumerate(("ant", "bee")):
            photo_trees.picture(tmp_path / part / name / "0.png", label, kind="PNG")
    folder = Data("folder", root=str(tmp_path), size=8, workers=0)
    found = [evaluation_source(data, torch.device("cpu"), 2) for data in (Data("digits"), folder)]
    assert [type(source) for source in found] == [SmallImages, Photos]
    assert [len(next(source.batches(1))) for source in found] == [2, 2]


def test_photos_of_a_known_set_in_memory_keep_their_parts_and_few_labels_are_of_the_training_part(
    tmp_path: Path,
) -> None:
    photo_trees.imagenet_tree(tmp_path, train=4, val=2)
    data = Data("imagenet", root=str(tmp_path), size=8, labels_per_class=1, cache=False)
    images = SETS["imagenet"](data)
    assert (len(images.train), len(images.test)) == (3, 6)
