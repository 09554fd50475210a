"""Parts of batches are the batches: nothing is lost, nothing comes twice, and no number is drawn anew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fractionate.data import (
    AUGMENTATIONS,
    Batch,
    Divisible,
    Normalization,
    SmallImages,
    Source,
    bounds,
    part,
    pieces,
    shares,
)

OPTIONS = {
    "plain": {},
    "shift and flip": {"shift": 2, "flip": True},
    "augmented": {"shift": 1, "augment": AUGMENTATIONS["randaugment"]},
    "two views": {"shift": 1, "flip": True, "strong": AUGMENTATIONS["cutout"]},
    "mixed": {"mixup": 0.5, "cutmix": 1.0},
}


def source(**options: object) -> SmallImages:
    images = torch.randint(0, 256, (13, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(13) % 4
    return SmallImages(images, labels, 4, Normalization((0.5,) * 3, (0.25,) * 3), batch_size=5, **options)  # type: ignore[arg-type]


class Plain:
    """A source that knows nothing of parts."""

    def __init__(self, inner: Source) -> None:
        self.inner, self.num_classes, self.classes = inner, inner.num_classes, inner.classes
        self.count, self.batch_size, self.variants = inner.count, inner.batch_size, inner.variants

    def __len__(self) -> int:
        return len(self.inner)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return self.inner.batches(epoch, start)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("kind", OPTIONS)
def test_parts_joined_are_the_whole_batch(kind: str, count: int) -> None:
    data = source(**OPTIONS[kind])
    assert isinstance(data, Divisible)
    split = [list(shares(data, 2, i, count)) for i in range(count)]
    for whole, *parts in zip(data.batches(2), *split, strict=True):
        real = [p for p in parts if p.share]
        assert sum(p.share for p in parts) == pytest.approx(1)
        assert {p.whole for p in parts} == {len(whole)}
        for name in ("images", "target", "index", "strong", "variant"):
            if (expected := getattr(whole, name)) is not None:
                assert torch.equal(torch.cat([getattr(p, name) for p in real]), expected)


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_source_without_parts_is_cut_in_the_same_places(kind: str) -> None:
    data = source(**OPTIONS[kind])
    for own, cut in zip(shares(data, 1, 1, 3), shares(Plain(data), 1, 1, 3), strict=True):
        assert torch.equal(own.images, cut.images)
        assert (own.whole, own.share) == (cut.whole, cut.share)


def test_a_part_without_images_borrows_some_that_do_not_count() -> None:
    batch = next(iter(source().batches(1))).at(slice(0, 3))
    found = [part(batch, i, 4) for i in range(4)]
    assert sum(p.share == 0 for p in found) == 1
    assert all(len(p) > 0 for p in found)


def test_one_part_is_the_batch_itself() -> None:
    batch = next(iter(shares(source(), 1)))
    assert batch.whole is None
    assert batch.share == 1
    assert pieces(batch, 1) == [batch]


def test_pieces_follow_each_other_and_keep_their_share() -> None:
    batch = next(iter(shares(source(), 1, 0, 2)))
    found = pieces(batch, 2)
    assert torch.equal(torch.cat([p.index for p in found]), batch.index)
    assert sum(p.share for p in found) == pytest.approx(batch.share)
    assert {p.whole for p in found} == {5}
    assert len(pieces(batch, 99)) == len(batch)


@pytest.mark.parametrize("n", range(9))
def test_bounds_cover_everything_once_and_differ_by_one_at_most(n: int) -> None:
    for count in (1, 2, 5):
        cuts = [bounds(n, i, count) for i in range(count)]
        assert [i for cut in cuts for i in range(n)[cut]] == list(range(n))
        sizes = [cut.stop - cut.start for cut in cuts]
        assert max(sizes) - min(sizes) <= 1
