"""The digits: parts that share nothing, equal shares of every class, the same images on every machine."""

import pytest
import torch

from fractionate.data import digits


def rows(part: str, labels: int | None = None) -> set[bytes]:
    return {bytes(image.flatten().tolist()) for image in digits(part, labels).images}


def test_all_images_are_used_once() -> None:
    assert len(digits("train")) + len(digits("test")) == 1797
    parts = [digits(p) for p in ("train-without-validation", "validation", "test")]
    assert sum(map(len, parts)) == 1797


def test_no_test_image_is_trained_on() -> None:
    assert not rows("test") & rows("train")
    assert not rows("validation") & rows("train-without-validation")
    assert rows("validation") | rows("train-without-validation") == rows("train")


@pytest.mark.parametrize("part", ["train", "test", "validation"])
def test_every_class_has_the_same_share_of_every_part(part: str) -> None:
    count = torch.bincount(digits(part).target, minlength=10)
    whole = torch.bincount(torch.cat([digits("train").target, digits("test").target]), minlength=10)
    share = count.double() / whole
    assert float(share.max() - share.min()) < 0.01


def test_few_labels_are_exactly_that_many_per_class() -> None:
    assert torch.bincount(digits("train", 5).target).tolist() == [5] * 10


def test_few_labels_are_the_same_images_with_and_without_validation() -> None:
    assert rows("train", 5) == rows("train-without-validation", 5)
    assert not rows("train", 5) & (rows("validation") | rows("test"))


def test_a_larger_budget_contains_the_smaller_one() -> None:
    assert rows("train", 5) < rows("train", 10)


def test_pixels_use_the_whole_range_of_a_byte() -> None:
    images = digits("train").images
    assert images.shape[1:] == (1, 8, 8)
    assert (int(images.min()), int(images.max())) == (0, 255)


@pytest.mark.parametrize(
    ("part", "labels", "message"),
    [
        ("tset", None, "did you mean 'test'"),
        ("test", 5, "labels_per_class is for the training parts"),
        ("train", 0, "labels_per_class must lie in 1.."),
        ("train", 10_000, "labels_per_class must lie in 1.."),
    ],
)
def test_what_is_not_there_is_refused(part: str, labels: int | None, message: str, unchecked: None) -> None:
    with pytest.raises(ValueError, match=message):
        digits(part, labels)
