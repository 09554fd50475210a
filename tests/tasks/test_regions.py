"""Training on the regions of an image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fractionate as fr
from fractionate.config.data import Data
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.data import Batch
from fractionate.tasks import make_rows
from fractionate.tasks.rows import region_rows
from fractionate.teachers.live import LiveTeacher
from fractionate.train.build import prepare
from fractionate.train.loop import fit


def batch(channels: int = 1, size: int = 8) -> Batch:
    images = torch.randn(5, channels, size, size, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.arange(5), torch.arange(5))


@pytest.mark.parametrize(
    ("name", "images"),
    [("convnet_gap_8_16", batch()), ("wrn_16_1", batch(3, 16)), ("mobilenet_v2", batch(3, 32))],
    ids=["convnet", "wrn", "mobilenet"],
)
def test_the_first_region_is_the_whole_image(name: str, images: Batch) -> None:
    student, teacher = (fr.models.create(name, num_classes=10).eval() for _ in range(2))
    rows = region_rows(student, LiveTeacher(teacher), images, (1, 2))
    whole = make_rows(student, LiveTeacher(teacher), images)
    assert rows.regions is not None
    assert rows.regions.rows == 5 * 5
    torch.testing.assert_close(rows.student, whole.student)
    torch.testing.assert_close(rows.teacher, whole.teacher)


def test_one_scale_trains_like_the_inner_method(tmp_path: Path) -> None:
    checkpoint = tmp_path / "teacher.pth"
    torch.save(fr.models.create("convnet_gap_16_32_64", num_classes=10).state_dict(), checkpoint)

    def losses(method: str) -> list[float]:
        run = Run(
            student=Network("convnet_gap_8_16"),
            teacher=Network("convnet_gap_16_32_64", checkpoint=str(checkpoint)),
            method=MethodSpec.parse(method),
            data=Data(labels_per_class=2),
            epochs=2,
        )
        return [record.train_loss for record in fit(prepare(run))]

    assert losses("dkd+sdd(scales=[1])") == pytest.approx(losses("dkd"), rel=1e-4)


def test_a_network_without_global_pooling_is_refused_before_training() -> None:
    run = Run(
        student=Network("convnet_8_16"),
        teacher=Network("convnet_gap_16_32_64"),
        method=MethodSpec.parse("kd+sdd(scales=[1, 2])"),
        data=Data(labels_per_class=2),
    )
    with pytest.raises(ValueError, match="global average pooling"):
        prepare(run)
