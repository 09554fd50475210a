"""Properties that small changes of the code had slipped past: data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fractionate.data import Normalization, Photos, SmallImages
from fractionate.data.augment import operations, policies
from fractionate.data.dense.layouts import listed
from fractionate.data.dense.source import IMAGENET, Crop, cropped
from fractionate.data.joined import Joined, joined
from fractionate.data.kept import Bounded, Pictures, _room
from tests.dense import trees

RULE = Normalization((0.5,), (0.5,))


def small(tones: list[int], labels: list[int], **options: object) -> SmallImages:
    images = torch.tensor(tones, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4).clone()
    given = {"batch_size": 2, "seed": 0, **options}
    return SmallImages(images, torch.tensor(labels), 3, RULE, **given)  # type: ignore[arg-type]


def test_an_image_in_a_joined_batch_has_the_label_and_the_number_it_came_with() -> None:
    known = next(small([10, 20, 30], [0, 1, 2], batch_size=3).batches(1))
    unknown = next(small([200, 210], [-1, -1], batch_size=2).batches(1))
    batch = joined(known, unknown, 3)
    tones = ((batch.images[:, 0, 0, 0] * 0.5 + 0.5) * 255).round().long().tolist()
    by_tone = {10: (0, 0), 20: (1, 1), 30: (2, 2), 200: (-1, 3), 210: (-1, 4)}
    assert [by_tone[tone] for tone in tones] == list(zip(batch.target.tolist(), batch.index.tolist(), strict=True))


def test_a_source_that_begins_again_goes_on_with_its_next_epoch() -> None:
    known, unknown = small([10, 20, 30], [0, 1, 2]), small(list(range(100, 112)), [-1] * 12)
    found = [batch.index[batch.target >= 0] for batch in Joined(known, unknown).batches(1)]
    expected = [batch.index for epoch in (1, 2, 3) for batch in known.batches(epoch)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=False))


def test_photos_need_a_label_each() -> None:
    with pytest.raises(ValueError, match="2 pictures have 3 labels"):
        Photos(Pictures([Path("a"), Path("b")], Bounded(8)), torch.zeros(3).long(), 2, RULE, 8, 2)


def test_a_set_of_masks_without_a_test_part_is_tested_on_a_fifth(tmp_path: Path) -> None:
    trees.masks(tmp_path, 10)
    assert [len(listed("masks", tmp_path, part)) for part in ("train", "test")] == [8, 2]


def test_dense_images_are_normalised_as_imagenets_are() -> None:
    assert Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) == IMAGENET


def test_colours_that_hardly_change_leave_the_image_as_it_is() -> None:
    image = torch.randint(0, 256, (3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(6, 6, dtype=torch.uint8)
    changed, plain = (
        cropped(image, mask, Crop(colour=c), Normalization((0.0,) * 3, (1.0,) * 3), 5)[0] for c in (1e-6, 0)
    )
    torch.testing.assert_close(changed, plain, atol=1e-4, rtol=0)


def test_the_room_of_few_pictures_counts_every_one(tmp_path: Path) -> None:
    paths = []
    for i, side in enumerate((4, 32, 4, 32)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    few, all_small = _room(paths, Bounded(64)), _room(paths[::2] * 2, Bounded(64))
    assert few - all_small >= 2 * 3 * (32 * 32 - 5 * 5)


@pytest.mark.parametrize("tones", [[77] * 300, [3] * 290 + [200] * 10, list(range(256)) + [255] * 44])
def test_tones_are_spread_as_pillow_does_also_where_there_are_hardly_any(tones: list[int]) -> None:
    plane = torch.tensor(tones, dtype=torch.uint8).view(1, 1, 15, 20)
    found = operations.equalise(plane, torch.zeros(1))[0, 0]
    expected = ImageOps.equalize(Image.fromarray(plane[0, 0].numpy()))
    assert found.flatten().tolist() == np.asarray(expected).flatten().tolist()


def test_policies_are_the_published_ones() -> None:
    transforms = pytest.importorskip("torchvision.transforms.autoaugment")
    theirs = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10).policies
    names = {"color": "colour", "equalize": "equalise", "posterize": "posterise", "solarize": "solarise"}
    names |= {"shearx": "shear_x", "sheary": "shear_y", "translatex": "translate_x", "translatey": "translate_y"}
    for own, other in zip(policies.CIFAR10, theirs, strict=True):
        for (name, probability, level), (their_name, their_probability, their_level) in zip(own, other, strict=True):
            assert (name, probability) == (names.get(their_name.lower(), their_name.lower()), their_probability)
            if their_level is not None:
                assert level == their_level


def test_the_strong_view_moves_as_far_to_one_side_as_to_the_other() -> None:
    for operation, low, high in policies.STRONG:
        if low < 0:
            assert low == -high, operation
