"""timm's RandAugment: its own pixels, by draws that follow from a number and leave every generator where it stood."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from fractionate.config.data import Data
from fractionate.data.augment.by_timm import _drawn_by
from fractionate.data.augment.photo import Shown, keyed

auto_augment = pytest.importorskip("timm.data.auto_augment")
TEXTS = (
    "rand-m9-mstd0.5-inc1",
    "rand-m7-n3-mstd101",
    "rand-n1-p1.0-m15-mmax20-inc1",
    "rand-tweights-m9",
    "rand-t3a-p0.9",
)
SIDE = 20


def photo() -> torch.Tensor:
    small = torch.randint(0, 256, (4, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    large = Image.fromarray(small.numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(large)).permute(2, 0, 1)


def by_hand(image: torch.Tensor, text: str, number: int, interpolation: str = "BILINEAR") -> torch.Tensor:
    """What timm makes of it when the global generators stand where the number says."""
    known = {"translate_const": 9, "img_mean": (124, 116, 104), "interpolation": Image.Resampling[interpolation]}
    policy = auto_augment.rand_augment_transform(text, known)
    random.seed(keyed(number, 1))
    np.random.seed(keyed(number, 1) % 2**32)  # noqa: NPY002 (the generator that timm draws from)
    return torch.from_numpy(np.array(policy(Image.fromarray(image.permute(1, 2, 0).numpy())))).permute(2, 0, 1)


@pytest.mark.parametrize("text", TEXTS)
def test_the_pixels_are_those_of_timm(text: str) -> None:
    image, changed = photo(), 0
    shown = Shown(SIDE, crop="pad", flip=False, augment=text)
    for key in range(30):
        found = shown(image, 1, key)
        assert torch.equal(found, by_hand(image, text, keyed(1, key)))
        changed += not torch.equal(found, image)
    assert changed > 8


@pytest.mark.parametrize("text", ["rand-n1-p1.0-m10-inc1", "rand-n1-p1.0-m2", "rand-n1-p1.0-m15-mmax20-inc1"])
def test_posterising_to_no_bits_is_black_also_where_pillow_refuses_it(text: str) -> None:
    """Pillow keeps the upper bits, ``value & ~(2 ** (8 - bits) - 1)``: of 0 bits, or fewer, nothing is left."""
    image, black = photo(), 0
    for key in range(60):
        found = Shown(SIDE, crop="pad", flip=False, augment=text)(image, 1, key)
        try:
            expected = by_hand(image, text, keyed(1, key))
        except ValueError:  # of Pillow 13
            expected = torch.zeros_like(image)
        assert torch.equal(found, expected)
        black += not found.any()
    assert black


def test_the_images_are_moved_as_the_photo_is_resized() -> None:
    shown = Shown(SIDE, crop="pad", flip=False, augment=TEXTS[0], interpolation="bicubic")
    pairs = [(shown(photo(), k), by_hand(photo(), TEXTS[0], keyed(k), "BICUBIC")) for k in range(30)]
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_draws_follow_from_the_key_alone() -> None:
    shown = Shown(SIDE, augment=TEXTS[0], erasing=0.5)
    first = [shown(photo(), 2, k) for k in range(8)]
    random.seed(5), np.random.seed(6), torch.manual_seed(7)  # noqa: NPY002
    drawn = np.random.random(), torch.rand(1).item()  # noqa: NPY002
    random.seed(8), np.random.seed(6), torch.manual_seed(7)  # noqa: NPY002
    again = [shown(photo(), 2, k) for k in reversed(range(8))][::-1]
    assert all(map(torch.equal, first, again))
    assert drawn == (np.random.random(), torch.rand(1).item())  # noqa: NPY002
    assert len({tuple(image.flatten().tolist()) for image in first}) == 8


def test_every_generator_stands_where_it_stood_also_after_an_error() -> None:
    before, numbers = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = []

    def failing() -> None:
        with _drawn_by(3):
            first.extend((random.random(), np.random.random()))  # noqa: NPY002
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    after = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert after == (before, numbers)
    with _drawn_by(3):
        assert first == [random.random(), np.random.random()]  # noqa: NPY002


def test_the_strength_has_a_spread_and_torchvision_s_has_none() -> None:
    """With ``mstd0`` one operation takes at most two strengths (its sign is drawn), with a spread many."""
    image = photo()
    counts = {}
    for spread in ("0", "0.5"):
        shown = Shown(SIDE, crop="pad", flip=False, augment=f"rand-m5-n1-p1.0-mstd{spread}-inc1")
        counts[spread] = len({tuple(shown(image, k).flatten().tolist()) for k in range(200)})
    assert counts["0"] <= 30 < counts["0.5"]


@pytest.mark.parametrize(
    "wrong",
    [
        "rand-",
        "rand-m",
        "rand-m9-m8",
        "rand-m9.5",
        "rand-x3",
        "rand-m9-inc2",
        "rand-m9-tall",
        "rand-m9 ",
        "rand-n0",
        "rand-p.9",
    ],
)
def test_a_string_that_timm_would_misread_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"no RandAugment of timm's.*such as rand-m9-mstd0\.5-inc1"):
        Data("folder", root="x", workers=0, augment=wrong)


def test_photos_in_memory_and_unknown_names_are_told_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"one by one: add data\.workers=N"):
        Data("folder", root="x", augment=TEXTS[0])
    with pytest.raises(ValueError, match=r"unknown data\.strong 'cutou': did you mean 'cutout'"):
        Data("cifar10", strong="cutou")
