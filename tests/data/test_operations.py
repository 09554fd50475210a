"""Every operation gives Pillow's bytes: for noise, flat images, few tones, at random, round and extreme levels."""

import pytest
import torch

from fractionate.data.augment.operations import apply
from fractionate.data.augment.policies import SCALES, STRONG, grey_square
from tests.data import pillow

# Operation, and a range of levels that contains those of every policy.
LEVELS = {
    "identity": (0, 1),
    "invert": (0, 1),
    "solarise": (0, 256),
    "posterise": (1, 8),
    "brightness": (0, 2),
    "colour": (0, 2),
    "contrast": (0, 2),
    "sharpness": (0, 2),
    "autocontrast": (0, 1),
    "equalise": (0, 1),
    "rotate": (-180, 180),
    "shear_x": (-0.5, 0.5),
    "shear_y": (-0.5, 0.5),
    "translate_x": (-0.5, 0.5),
    "translate_y": (-0.5, 0.5),
}
COUNT = 300


def images(channels: int, height: int, width: int) -> torch.Tensor:
    """Noise, noise in a narrow range of tones, four tones, a few pixels on a ground, and one tone."""
    noise = torch.randint(0, 256, (COUNT, channels, height, width), dtype=torch.uint8)
    lowest, span = torch.randint(0, 200, (COUNT, channels, 1, 1)), torch.randint(1, 56, (COUNT, 1, 1, 1))
    narrow = (lowest + noise * span // 256).to(torch.uint8)
    sparse = torch.where(noise > 250, noise, lowest.to(torch.uint8))
    kinds = [noise, narrow, noise // 64 * 64, sparse]
    made = torch.stack([kinds[i % 4][i] for i in range(COUNT)])
    made[0], made[1], made[2] = 0, 255, 77
    return made


def levels(name: str) -> torch.Tensor:
    """Random ones, and the range in equal steps with its ends and 0, where roundings meet."""
    low, high = LEVELS[name]
    half = COUNT // 2
    random = low + (high - low) * torch.rand(COUNT - half - 1, dtype=torch.float64)
    return torch.cat([torch.linspace(low, high, half, dtype=torch.float64), random, random.new_tensor([max(low, 0)])])


@pytest.mark.parametrize("size", [(3, 32, 32), (1, 28, 28), (3, 9, 14)], ids=str)
@pytest.mark.parametrize("name", LEVELS)
def test_an_operation_gives_the_bytes_of_pillow(name: str, size: tuple[int, int, int]) -> None:
    given, level = images(*size), levels(name)
    operation = SCALES[name][0]
    expected = pillow.each(given, lambda image, i: pillow.OPERATIONS[name](image, level[i].item()))
    assert torch.equal(operation(given, level), expected)


@pytest.mark.parametrize("name", ["sharpness", "equalise", "rotate", "contrast", "translate_x"])
def test_images_of_two_pixels_are_no_exception(name: str) -> None:
    given, level = images(3, 2, 2), levels(name)
    expected = pillow.each(given, lambda image, i: pillow.OPERATIONS[name](image, level[i].item()))
    assert torch.equal(SCALES[name][0](given, level), expected)


@pytest.mark.parametrize("size", [(3, 32, 32), (1, 9, 14)], ids=str)
def test_the_grey_square_is_the_one_pillow_draws(size: tuple[int, int, int]) -> None:
    given = images(*size)
    side, x, y = torch.rand(3, COUNT, dtype=torch.float64) * torch.tensor([[size[2] / 2], [size[2]], [size[1]]])
    side[:50] = side[:50].round()
    x[:25] = x[:25].round()
    expected = pillow.each(given, lambda image, i: pillow.square(image, side[i].item(), x[i].item(), y[i].item()))
    assert torch.equal(grey_square(given, side, x, y), expected)


def test_every_operation_of_the_two_policies_is_compared_with_pillow() -> None:
    assert set(SCALES) == set(LEVELS) == set(pillow.OPERATIONS)
    assert {operation for operation, _, _ in STRONG} <= {operation for operation, _, _ in SCALES.values()}


@pytest.mark.parametrize("name", LEVELS)
def test_an_operation_leaves_what_it_was_given(name: str) -> None:
    given = images(3, 8, 8)
    before = given.clone()
    SCALES[name][0](given, levels(name))
    assert torch.equal(given, before)


def test_every_image_gets_its_own_operation_at_its_own_level_in_its_own_place() -> None:
    given = images(3, 6, 5)
    names = ["rotate", "invert", "brightness", "solarise"]
    which, level = torch.randint(4, (COUNT,)), torch.rand(COUNT, dtype=torch.float64)
    done = apply([SCALES[name][0] for name in names], given, which, level)
    for i in range(COUNT):
        alone = SCALES[names[which[i]]][0](given[i : i + 1], level[i : i + 1])
        assert torch.equal(done[i], alone[0])


def test_no_images_are_no_error() -> None:
    none = torch.zeros(0, 3, 4, 4, dtype=torch.uint8)
    assert apply([SCALES["invert"][0]], none, torch.zeros(0).long(), torch.zeros(0).double()).shape == none.shape
