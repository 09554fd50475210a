"""RandAugment and AutoAugment give the bytes of Pillow, an image at a time with the same draws."""

import pytest
import torch

from fractionate.data import AUGMENTATIONS, autoaugment, randaugment
from fractionate.data.augment.policies import CIFAR10, ENHANCEMENTS, SCALES, STRONG
from tests.data import pillow

NAMES = {operation: name for name, (operation, _, _) in SCALES.items()}
ON = [name for name, augmentation in AUGMENTATIONS.items() if augmentation]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, 32, 32), dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_strong_view_is_two_operations_and_a_square_of_pillow(channels: int) -> None:
    n, images, draws = 200, noise(200, channels), generator(5)
    steps = []
    for _ in range(2):
        which = torch.randint(len(STRONG), (n,), generator=draws)
        steps.append((which, torch.rand(n, generator=draws, dtype=torch.float64)))
    side, x, y = (torch.rand(3, n, generator=draws, dtype=torch.float64) * torch.tensor([[16.0], [32], [32]])).tolist()

    def strong(image: pillow.Image.Image, i: int) -> pillow.Image.Image:
        for which, share in steps:
            operation, low, high = STRONG[which[i]]
            image = pillow.OPERATIONS[NAMES[operation]](image, low + (high - low) * share[i].item())
        return pillow.square(image.copy(), side[i], x[i], y[i])

    assert torch.equal(randaugment(images, generator(5)), pillow.each(images, strong))


def test_a_sub_policy_is_two_operations_of_pillow_each_with_its_probability() -> None:
    n, images, draws = 300, noise(300), generator(5)
    policy = torch.randint(25, (n,), generator=draws)
    chance = torch.rand(2, n, generator=draws)
    sign = torch.randint(2, (2, n), generator=draws) * 2 - 1

    def changed(image: pillow.Image.Image, i: int) -> pillow.Image.Image:
        for step, (name, probability, level) in enumerate(CIFAR10[policy[i]]):
            _, scale, signed = SCALES[name]
            value = scale[level] * (sign[step, i].item() if signed else 1) + (name in ENHANCEMENTS)
            image = pillow.OPERATIONS[name](image, value) if chance[step, i] < probability else image
        return image

    assert torch.equal(autoaugment(images, generator(5)), pillow.each(images, changed))


def test_the_policy_and_its_levels_are_those_of_torchvision() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    theirs = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)
    words = {"color": "colour", "equalize": "equalise", "posterize": "posterise", "solarize": "solarise"}
    words |= {"shearx": "shear_x", "sheary": "shear_y", "translatex": "translate_x", "translatey": "translate_y"}
    space = {words.get(k.lower(), k.lower()): v for k, v in theirs._augmentation_space(10, (100, 100)).items()}
    for ours, other in zip(CIFAR10, theirs.policies, strict=True):
        for (name, probability, level), (word, p, bin_) in zip(ours, other, strict=True):
            assert (name, probability) == (words.get(word.lower(), word.lower()), p)
            assert bin_ is None or level == bin_
            values, signed = space[name]
            assert SCALES[name][2] == signed
            if values.ndim:
                scale = 100 if name.startswith("translate") else 1
                assert torch.allclose(torch.tensor(SCALES[name][1]) * scale, values.float(), atol=1e-4)


def test_the_strong_view_draws_from_fourteen_operations() -> None:
    assert sorted(NAMES[operation] for operation, _, _ in STRONG) == sorted(set(SCALES) - {"invert"})


@pytest.mark.parametrize("name", ON)
def test_an_augmentation_depends_on_its_generator_alone(name: str) -> None:
    images = noise(40)
    first = AUGMENTATIONS[name](images, generator(1))
    torch.rand(3)
    before = torch.get_rng_state()
    assert torch.equal(first, AUGMENTATIONS[name](images, generator(1)))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first, AUGMENTATIONS[name](images, generator(2)))
    assert first.dtype == torch.uint8
    assert first.shape == images.shape


@pytest.mark.parametrize("name", ON)
def test_an_augmentation_leaves_the_images_it_was_given(name: str) -> None:
    images = noise(40)
    before = images.clone()
    AUGMENTATIONS[name](images, generator())
    assert torch.equal(images, before)


@pytest.mark.parametrize("augmentation", [randaugment, autoaugment])
@pytest.mark.parametrize("images", [torch.zeros(2, 3, 8, 8), torch.zeros(2, 4, 8, 8, dtype=torch.uint8)], ids=str)
def test_what_has_no_tones_is_refused(augmentation: object, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"needs uint8 images \[n, 1 or 3, h, w\], got torch"):
        augmentation(images, generator())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("name", ON)
def test_a_gpu_gives_the_bytes_of_the_cpu_and_nobody_waits_for_it(name: str) -> None:
    images = noise(100)
    there = images.cuda()
    AUGMENTATIONS[name](there, generator())  # the first call sets the GPU up
    torch.cuda.set_sync_debug_mode("error")
    try:
        seen = AUGMENTATIONS[name](there, generator(1))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(seen.cpu(), AUGMENTATIONS[name](images, generator(1)))
