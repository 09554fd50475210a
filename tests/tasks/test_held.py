"""Properties that small changes of the code had slipped past: tasks and teachers."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fractionate.config.task import Segmentation as Settings
from fractionate.data import Batch, Normalization, SmallImages
from fractionate.models import create
from fractionate.tasks.counts import Counts, _calibration, slid
from fractionate.tasks.overlays import SHARE, _painted, overlays, palette
from fractionate.tasks.rows import labels_of, region_rows
from fractionate.tasks.segmentation import Segmentation
from fractionate.teachers.live import LiveTeacher, _agree
from fractionate.teachers.table import TeacherTable


def photo(n: int = 6) -> Batch:
    """Images of one class in their left half, of another in their right one, without a label in the last row."""
    images = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    target = torch.zeros(n, 8, 8, dtype=torch.int64)
    target[:, :, 4:] = 1
    target[:, 7] = 255
    return Batch(images, target, torch.arange(n))


class Source:
    """A batch at a time of the same photos."""

    count, classes, num_classes, normalization = 6, ("ground", "thing"), 2, Normalization.none(3)
    variants, device, batch_size, class_counts = None, "cpu", 3, None

    def __len__(self) -> int:
        return 2

    def batches(self, epoch: int, start: int = 0) -> list[Batch]:
        batch = photo()
        return [batch.at(slice(i, i + 3)) for i in range(0, 6, 3)]


def opened(file: bytes) -> Tensor:
    with Image.open(io.BytesIO(file)) as image:
        return torch.tensor(np.asarray(image.convert("RGB")).tolist()).view(image.height, image.width, 3)


def test_overlays_are_pictures_of_images_spread_over_the_set_with_every_network_beside_the_labels() -> None:
    net = nn.Conv2d(3, 2, 1)
    found = overlays(net, net, Source(), 255, count=2)  # type: ignore[arg-type]
    assert sorted(found) == ["00001.png", "00004.png", "legend.json"]
    for i in (1, 4):
        picture = opened(found[f"{i:05d}.png"])
        assert picture.shape == (7, 4 * 8, 3)
        expected = (255 * photo().images[i, :, :7]).round().permute(1, 2, 0).long()
        assert (picture[:, :8] - expected).abs().max() <= 1


def test_a_colour_covers_its_share_of_the_grey_and_nothing_where_there_is_no_label() -> None:
    pixels = torch.full((3, 1, 3), 100.0)
    known = torch.tensor([[True, True, False]])
    found = _painted(pixels, torch.tensor([[0, 1, 255]]), known)
    colours = palette(2).float()
    for x in (0, 1):
        torch.testing.assert_close(found[:, 0, x], SHARE * colours[x] + (1 - SHARE) * 100)
    assert found[:, 0, 2].tolist() == [100.0] * 3
    alone = _painted(pixels, torch.tensor([[0, 255, 255]]), torch.tensor([[True, False, False]]))
    torch.testing.assert_close(alone[:, 0, 0], found[:, 0, 0])


def test_an_ignored_class_and_void_are_grey_and_an_answer_of_that_class_has_its_colour() -> None:
    net = nn.Conv2d(3, 2, 1)
    nn.init.zeros_(net.weight)
    nn.init.ones_(net.bias).data[1] = 0  # it says class 0 everywhere
    (picture, *_) = overlays(net, None, Source(), 0, count=1).values()  # type: ignore[arg-type]
    image, labels, said = opened(picture)[:, :24].double().split(8, 1)
    grey = image.mean(2, keepdim=True)
    for part, colours in ((labels, palette(2)[1]), (said, palette(2)[0])):
        assert (part[:7, :4] - grey[:7, :4]).abs().max() <= 2  # class 0, which does not count
        assert (part[:7, 4:] - SHARE * colours.double() - (1 - SHARE) * grey[:7, 4:]).abs().max() <= 2
    assert len(image) == 7  # the last row is void


def test_settings_of_a_dense_task_say_how_it_asks_and_measures() -> None:
    window = {"window": (4, 4), "classes": ("a", "b")}
    whole, sliding = (Segmentation(Settings(evaluate=how), **window) for how in ("whole", "sliding"))  # type: ignore[arg-type]
    assert (whole.metrics().window, sliding.metrics().window) == (None, (4, 4))
    for logits, head in (("head", True), ("labels", False)):
        assert Segmentation(Settings(logits=logits)).ask.keywords == {"head": head}  # type: ignore[arg-type, attr-defined]


def test_dense_rows_hold_the_teachers_logits_where_there_is_a_teacher() -> None:
    batch, student, other = photo(2), nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)
    task = Segmentation(Settings())
    given = task.rows(student, LiveTeacher(other, ask=task.ask), batch).teacher
    own = task.rows(student, None, batch)
    assert torch.equal(own.teacher, own.student.detach())
    torch.testing.assert_close(given, other(batch.images).movedim(1, -1)[batch.target != 255].detach())


def test_windows_cover_images_that_are_smaller_than_one_in_one_direction() -> None:
    net = nn.Conv2d(3, 2, 1)
    images = torch.rand(2, 3, 3, 9)
    torch.testing.assert_close(slid(net, images, (4, 4), 0.5), net(images).log_softmax(1))
    seen: list[torch.Size] = []
    net.register_forward_hook(lambda _, given, out: seen.append(given[0].shape))
    slid(net, torch.rand(1, 3, 4, 4), (4, 4), 0.5)
    assert [tuple(shape) for shape in seen] == [(1, 3, 4, 4)]
    counts = Counts(255, ("a", "b"), None, (4, 4), 0.5)
    torch.testing.assert_close(counts.run(net, replace(photo(2), images=images)), net(images).log_softmax(1))


def test_agreement_is_the_percentage_of_labelled_pixels_with_the_same_answer() -> None:
    batch, net = photo(2), nn.Conv2d(3, 2, 1)
    first = Counts(255, ("a", "b"))
    first.add(net(batch.images).detach(), batch)
    second = Counts(255, ("a", "b"), first.answers)
    second.add(net(batch.images).detach(), batch)
    assert second.result().agreement == 100.0


def test_bins_hold_the_mean_confidence_and_the_mean_of_what_was_right() -> None:
    found = _calibration([1.5, 0.0], [1.0, 0.0], [2.0, 0.0])
    assert (found.confidence, found.accuracy, found.count) == ((0.75, None), (0.5, None), (2, 0))


def test_an_image_without_a_label_counts_0_and_its_mixed_label_is_even() -> None:
    target = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    batch = Batch(torch.zeros(2, 1, 2, 2), target, torch.arange(2), labelled=1)
    found, weight = labels_of(batch, torch.zeros(2, 4))
    assert found is not None
    assert weight is not None
    assert (found[1].tolist(), weight.tolist()) == ([0.25] * 4, [2.0, 0.0])


def test_a_network_without_regions_is_named() -> None:
    batch = Batch(torch.rand(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64), torch.arange(2))
    with pytest.raises(ValueError, match="no features"):
        region_rows(nn.Conv2d(3, 2, 1), LiveTeacher(create("resnet8", num_classes=2)), batch, (1, 2))


def test_logits_of_a_single_image_that_is_shown_in_one_way_are_kept() -> None:
    images = torch.randint(0, 256, (1, 1, 4, 4), dtype=torch.uint8)
    source = SmallImages(images, torch.tensor([0]), 3, Normalization((0.5,), (0.5,)), batch_size=1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    batch = next(source.batches(1))
    torch.testing.assert_close(TeacherTable(net, source)(batch)[0], LiveTeacher(net)(batch)[0])


@pytest.mark.parametrize(("error", "agrees"), [(0.0, True), (0.9e-4, True), (1.5e-4, False)])
def test_a_quicker_form_of_a_teacher_may_miss_its_logits_by_a_ten_thousandth(error: float, agrees: bool) -> None:
    def ask(net: nn.Module, images: Tensor, what: str) -> Tensor:
        return images * (1 + error if isinstance(net, nn.Identity) else 1)

    assert _agree(nn.Flatten(), nn.Identity(), torch.full((2, 3), 7.0), ask) == agrees
    assert _agree(nn.Flatten(), nn.Identity(), torch.zeros(2, 3), ask)
