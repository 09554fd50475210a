"""Mixup and CutMix: labels have the shares of the pixels, both views the same ones, an epoch repeats itself."""

import pytest
import torch

from fractionate.data import Batch, Normalization, SmallImages
from fractionate.data.augment.mixing import Mix, draw, mixed

IDENTITY = Normalization((0.0,), (1.0,))


def constant(count: int = 8, **options: object) -> SmallImages:
    """Image i is one tone, 10 (i + 1), of class i."""
    tones = 10 * torch.arange(1, count + 1, dtype=torch.uint8)
    images = tones[:, None, None, None].expand(-1, 1, 6, 5)
    settings = {"batch_size": count, **options}
    return SmallImages(images, torch.arange(count), count, IDENTITY, **settings)


def tones(batch: Batch) -> torch.Tensor:
    return batch.images * 255


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}], ids=str)
def test_the_mean_tone_of_an_image_is_that_of_its_labels(options: dict[str, float]) -> None:
    data = constant(batch_size=4, passes=10, **options)
    for batch in data.batches(1):
        assert torch.allclose(batch.target.sum(1), torch.ones(len(batch)))
        expected = batch.target @ (10.0 * torch.arange(1, 9))
        assert torch.allclose(tones(batch).mean((1, 2, 3)), expected, atol=1e-3)
        assert batch.variant is None


def test_mixup_blends_every_pixel_and_cutmix_pastes_one_box() -> None:
    blend = next(constant(mixup=1.0).batches(1))
    assert torch.equal(blend.images.amax((1, 2, 3)), blend.images.amin((1, 2, 3)))
    for batch in constant(cutmix=1.0, batch_size=2, passes=20).batches(1):
        for image, own in zip(tones(batch).round(), 10.0 * (batch.index + 1), strict=True):
            pasted = image[0] != own
            assert pasted.sum() == pasted.any(1).sum() * pasted.any(0).sum()
            assert len(image[pasted[None]].unique()) <= 1


def test_with_both_on_each_occurs() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = [draw(4, (8, 8), 1.0, 1.0, generator).box is not None for _ in range(100)]
    assert 30 < sum(boxes) < 70


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_has_the_moments_of_its_beta_distribution(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    share = torch.tensor([draw(2, (8, 8), alpha, 0.0, generator).share for _ in range(3000)])
    assert float(share.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(share.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_a_box_covers_the_partner_s_share_and_lies_inside() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        mix = draw(2, (7, 11), 0.0, 1.0, generator)
        top, bottom, left, right = mix.box
        assert 0 <= top <= bottom <= 7
        assert 0 <= left <= right <= 11
        assert (bottom - top) * (right - left) / 77 == pytest.approx(1 - mix.share)


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}], ids=str)
def test_the_second_view_is_mixed_like_the_first(options: dict[str, float]) -> None:
    data = constant(strong=lambda images, generator: images, **options)
    batch = next(data.batches(1))
    assert torch.equal(batch.strong, batch.images)


def test_an_epoch_repeats_itself_and_another_seed_does_not() -> None:
    first, again, other = (
        list(constant(batch_size=3, mixup=0.4, cutmix=1.0, seed=seed).batches(2)) for seed in (0, 0, 1)
    )
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.target, b.target)
        assert not torch.equal(a.images, c.images)


def test_without_mixing_nothing_changes_and_labels_are_classes() -> None:
    batch = next(constant().batches(1))
    assert batch.target.dtype == torch.int64


def test_a_whole_share_leaves_the_images() -> None:
    batch = Batch(torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 2]), torch.arange(3))
    same = mixed(batch, Mix(torch.tensor([1, 2, 0]), 1.0), 3)
    assert torch.equal(same.images, batch.images)
    assert torch.equal(same.target, torch.eye(3))
