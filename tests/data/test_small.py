"""Batches of small images: the same for the same epoch, every image once per pass, shifts that are pad-crops."""

import pytest
import torch
import torch.nn.functional as F

from fractionate.data import AUGMENTATIONS, Normalization, SmallImages, Source, cutout
from tests.data import pillow

IDENTITY = Normalization((0.0, 0.0), (1.0, 1.0))


def made(count: int = 11, **options: object) -> SmallImages:
    images = torch.randint(0, 256, (count, 2, 6, 5), dtype=torch.uint8)
    settings = {"batch_size": 4, **options}
    return SmallImages(images, torch.arange(count) % 3, 3, IDENTITY, **settings)


def pixels(batch_images: torch.Tensor) -> torch.Tensor:
    return (batch_images * 255).round().to(torch.uint8)


def test_it_is_what_the_loop_asks_for() -> None:
    assert isinstance(made(), Source)


def test_the_number_of_batches_is_the_length() -> None:
    for options in ({}, {"passes": 3}, {"batch_size": 11}, {"batch_size": 100}):
        data = made(**options)
        assert len(list(data.batches(1))) == len(data)


def test_every_image_comes_once_per_pass_with_its_own_label() -> None:
    data = made(passes=3)
    batches = list(data.batches(1))
    index = torch.cat([b.index for b in batches])
    assert torch.bincount(index, minlength=11).tolist() == [3] * 11
    assert torch.equal(torch.cat([b.target for b in batches]), index % 3)


def test_without_augmentation_the_pixels_are_the_images() -> None:
    images = torch.randint(0, 256, (7, 2, 6, 5), dtype=torch.uint8)
    data = SmallImages(images, torch.zeros(7).long(), 1, IDENTITY, batch_size=3)
    for batch in data.batches(1):
        assert torch.equal(pixels(batch.images), images[batch.index])


def test_evaluation_keeps_the_order() -> None:
    index = torch.cat([b.index for b in made(shuffle=False).batches(1)])
    assert index.tolist() == list(range(11))


def test_an_epoch_gives_the_same_batches_whatever_was_drawn_before() -> None:
    data = made(shift=2, flip=True)
    expected = [b.images for b in data.batches(7)]
    list(data.batches(1))
    torch.rand(5)
    again = [b.images for b in data.batches(7)]
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))


@pytest.mark.parametrize("other", [{"epoch": 2}, {"seed": 1}])
def test_epochs_and_seeds_differ(other: dict[str, int]) -> None:
    images = made().images
    first = torch.cat([b.index for b in made(count=50).batches(1)])
    second = torch.cat([b.index for b in made(count=50, seed=other.get("seed", 0)).batches(other.get("epoch", 1))])
    assert not torch.equal(first, second)
    assert images.dtype == torch.uint8


def test_batches_do_not_move_the_global_random_state() -> None:
    data = made(shift=1, flip=True)
    before = torch.get_rng_state()
    list(data.batches(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_shifted_image_is_a_crop_of_the_zero_padded_one_and_every_crop_occurs() -> None:
    image = torch.randint(1, 256, (1, 2, 6, 5), dtype=torch.uint8)
    data = SmallImages(image, torch.zeros(1).long(), 1, IDENTITY, batch_size=200, passes=200, shift=1)
    padded = F.pad(image, (1, 1, 1, 1))[0]
    crops = [padded[:, i : i + 6, j : j + 5] for i in range(3) for j in range(3)]
    found = [
        next(n for n, crop in enumerate(crops) if torch.equal(crop, x)) for x in pixels(next(data.batches(1)).images)
    ]
    assert set(found) == set(range(9))


def test_flipping_mirrors_about_half_of_the_images() -> None:
    image = torch.randint(0, 256, (1, 2, 6, 5), dtype=torch.uint8)
    data = SmallImages(image, torch.zeros(1).long(), 1, IDENTITY, batch_size=400, passes=400, flip=True)
    seen = pixels(next(data.batches(1)).images)
    mirrored = sum(torch.equal(x, image[0].flip(2)) for x in seen)
    assert mirrored + sum(torch.equal(x, image[0]) for x in seen) == 400
    assert 150 < mirrored < 250


def test_a_shifted_and_flipped_image_is_a_mirrored_crop() -> None:
    image = torch.randint(1, 256, (1, 2, 6, 5), dtype=torch.uint8)
    data = SmallImages(image, torch.zeros(1).long(), 1, IDENTITY, batch_size=100, passes=100, shift=1, flip=True)
    padded = F.pad(image, (1, 1, 1, 1))[0]
    crops = [padded[:, i : i + 6, j : j + 5] for i in range(3) for j in range(3)]
    allowed = [*crops, *(crop.flip(2) for crop in crops)]
    assert all(any(torch.equal(x, crop) for crop in allowed) for x in pixels(next(data.batches(1)).images))


@pytest.mark.parametrize("channels", [1, 3])
def test_shift_and_flip_give_the_bytes_of_pillow(channels: int) -> None:
    images = torch.randint(0, 256, (200, channels, 32, 32), dtype=torch.uint8)
    raw = Normalization((0.0,) * channels, (1.0,) * channels)
    data = SmallImages(images, torch.zeros(200).long(), 1, raw, batch_size=128, shift=4, flip=True)
    for batch in data.batches(1):
        corner, mirror = (batch.variant // 2).tolist(), (batch.variant % 2).bool().tolist()
        expected = pillow.each(
            images[batch.index],
            lambda image, i: pillow.cropped(image, 4, corner[i] // 9, corner[i] % 9, mirror[i]),  # noqa: B023
        )
        assert torch.equal(pixels(batch.images), expected)


def test_augmentation_comes_after_shift_and_flip_and_leaves_the_draws_of_both() -> None:
    images = torch.randint(1, 256, (9, 2, 6, 5), dtype=torch.uint8)
    plain, inverted = (
        SmallImages(images, torch.zeros(9).long(), 1, IDENTITY, 4, shift=1, flip=True, augment=augment)
        for augment in (None, lambda x, generator: 255 - x)
    )
    for a, b in zip(plain.batches(1), inverted.batches(1), strict=True):
        assert torch.equal(255 - pixels(a.images), pixels(b.images))
        assert a.variant is not None
        assert b.variant is None


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_makes_either_view(name: str) -> None:
    images = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    raw = Normalization((0.0,) * 3, (1.0,) * 3)
    options = {"augment": AUGMENTATIONS[name], "strong": AUGMENTATIONS[name]}
    data = SmallImages(images, torch.zeros(9).long(), 1, raw, 4, shift=1, **options)
    plain = SmallImages(images, torch.zeros(9).long(), 1, raw, 4, shift=1)
    for batch, other in zip(data.batches(1), plain.batches(1), strict=True):
        assert torch.equal(batch.images, other.images) == (name == "none")
        assert (batch.strong is None) == (name == "none")


@pytest.mark.parametrize("options", [{}, {"augment": AUGMENTATIONS["randaugment"]}, {"mixup": 1.0}, {"cutmix": 1.0}])
def test_whatever_made_them_batches_lie_in_memory_in_one_order(options: dict[str, object]) -> None:
    """So that no augmentation changes which kernels a network runs on."""
    images, raw = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8), Normalization((0.0,) * 3, (1.0,) * 3)
    for batch in SmallImages(images, torch.zeros(9).long(), 1, raw, 4, shift=1, flip=True, **options).batches(1):
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_normalising_gives_the_same_numbers_in_every_order_of_memory() -> None:
    images = torch.randint(0, 256, (5, 3, 6, 7), dtype=torch.uint8)
    normalization = Normalization.of(images)
    lines = normalization(images.contiguous(memory_format=torch.channels_last))
    assert torch.equal(lines, normalization(images))


def test_a_second_view_shows_the_same_images_and_leaves_the_first_view_as_it_was() -> None:
    images = torch.randint(1, 256, (9, 2, 6, 5), dtype=torch.uint8)
    one, two = (
        SmallImages(images, torch.zeros(9).long(), 1, IDENTITY, batch_size=4, shift=1, strong=strong)
        for strong in (None, lambda x, generator: 255 - x)
    )
    for a, b in zip(one.batches(1), two.batches(1), strict=True):
        assert a.strong is None
        assert b.strong is not None
        assert torch.equal(a.images, b.images)
        padded = F.pad(images[b.index], (1, 1, 1, 1))
        for view, image in zip(255 - pixels(b.strong), padded, strict=True):
            assert any(torch.equal(view, image[:, i : i + 6, j : j + 5]) for i in range(3) for j in range(3))


def test_a_cutout_is_one_black_square_of_at_most_half_the_width() -> None:
    white = torch.full((300, 2, 8, 8), 255, dtype=torch.uint8)
    seen = cutout(white, torch.Generator().manual_seed(0))
    assert torch.equal(seen[:, 0], seen[:, 1])
    black = seen[:, 0] == 0
    height, width = black.any(2).sum(1), black.any(1).sum(1)
    assert torch.equal(black.sum((1, 2)), height * width)
    assert int(height.max()) == int(width.max()) == 4
    assert 0 < int((height == 0).sum()) < 150
    assert bool(black.any(0).all())


def test_normalised_images_have_mean_zero_and_deviation_one() -> None:
    images = torch.randint(0, 200, (50, 3, 4, 4), dtype=torch.uint8)
    x = Normalization.of(images)(images)
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)


def test_mean_and_deviation_are_those_of_all_pixels_however_many_images() -> None:
    images = torch.randint(0, 256, (5000, 2, 3, 3), dtype=torch.uint8)
    std, mean = torch.std_mean(images.double() / 255, dim=(0, 2, 3), correction=0)
    found = Normalization.of(images)
    assert found.mean == pytest.approx(mean.tolist(), rel=1e-12)
    assert found.std == pytest.approx(std.tolist(), rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(3, 2, 6, 5)}, r"images must be uint8 \[n, ch, h, w\], got torch.float32"),
        ({"target": torch.zeros(4).long()}, r"target must be int64 \[n\]=\[3\]"),
        ({"target": torch.tensor([0, 1, 5])}, r"labels must lie in 0..2, got 0..5"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"passes": 0}, "passes must be at least 1"),
        ({"shift": -1}, "shift must be at least 0"),
        ({"mixup": -0.1}, "mixup must be at least 0"),
        ({"cutmix": -0.1}, "cutmix must be at least 0"),
        ({"images": torch.zeros(0, 2, 6, 5, dtype=torch.uint8), "target": torch.zeros(0).long()}, "no image"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused(change: dict[str, object], message: str, unchecked: None) -> None:
    given = {"images": torch.zeros(3, 2, 6, 5, dtype=torch.uint8), "target": torch.zeros(3).long(), "num_classes": 3}
    with pytest.raises(ValueError, match=message):
        SmallImages(**{**given, "normalization": IDENTITY, "batch_size": 2, **change})


def test_a_normalization_needs_one_deviation_per_channel_above_zero() -> None:
    with pytest.raises(ValueError, match="one number per channel and std > 0"):
        Normalization((0.0,), (0.0,))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize(
    "options", [{}, {"augment": cutout}, {"mixup": 0.2, "cutmix": 1.0}], ids=["plain", "cutout", "mixed"]
)
def test_cpu_and_gpu_give_the_same_batches(options: dict[str, object]) -> None:
    images, target = torch.randint(0, 256, (11, 2, 6, 5), dtype=torch.uint8), torch.arange(11) % 3
    here, there = (
        SmallImages(images, target, 3, IDENTITY, 4, shift=1, flip=True, device=device, **options)
        for device in ("cpu", "cuda")
    )
    for a, b in zip(here.batches(1), there.batches(1), strict=True):
        assert torch.allclose(a.images, b.images.cpu(), atol=1e-6)
        assert torch.allclose(a.target.float(), b.target.cpu().float())
