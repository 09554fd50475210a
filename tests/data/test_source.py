"""A source states facts, begins anywhere in an epoch, and its images are known again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fractionate.data import (
    AUGMENTATIONS,
    Batch,
    Countable,
    Divisible,
    Drawn,
    Labelled,
    Normalization,
    SmallImages,
    Source,
    class_counts,
    epoch_images,
    few,
    fingerprint_of,
    normalization_of,
    shares,
    stated,
)

RULE = Normalization((0.5, 0.4, 0.3), (0.25, 0.2, 0.3))


def noisy(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """An augmentation of one's own, which draws a number per pixel."""
    return images ^ torch.randint(0, 256, images.shape, dtype=torch.uint8, generator=generator)


KINDS: dict[str, dict[str, object]] = {
    "plain": {},
    "shift and flip": {"shift": 2, "flip": True},
    "two views": {"shift": 1, "strong": AUGMENTATIONS["randaugment"]},
    "mixed": {"mixup": 0.5, "cutmix": 1.0, "passes": 2},
    "all at once": {"augment": AUGMENTATIONS["cutout"], "strong": AUGMENTATIONS["autoaugment"], "cutmix": 1.0},
    "of one's own": {"augment": noisy, "mixup": 1.0},
    **{name: {"augment": augment} for name, augment in AUGMENTATIONS.items() if augment},
}


def source(count: int = 13, **options: object) -> SmallImages:
    images = torch.randint(0, 256, (count, 3, 8, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    settings: dict[str, object] = {"batch_size": 5, "normalization": RULE, **options}
    return SmallImages(images, torch.arange(count) % 4, 4, **settings)  # type: ignore[arg-type]


def same(one: Batch, other: Batch) -> bool:
    names = ("images", "target", "index", "strong", "variant")
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return all(a is b or torch.equal(a, b) for a, b in pairs) and (one.whole, one.share) == (other.whole, other.share)


@pytest.mark.parametrize("start", [0, 1, 2, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_begun_in_the_middle_goes_on_as_the_whole_one(kind: str, start: int) -> None:
    data = source(**KINDS[kind])
    for index, count in ((0, 1), (1, 2)):
        whole = list(shares(data, 3, index, count))
        late = list(shares(data, 3, index, count, start))
        assert len(late) == max(0, len(data) - start)
        assert all(same(a, b) for a, b in zip(whole[start:], late, strict=True))


def test_what_is_left_out_is_neither_cut_out_nor_augmented(monkeypatch: pytest.MonkeyPatch) -> None:
    data, cut = source(**KINDS["all at once"]), []
    really = SmallImages._crop
    monkeypatch.setattr(SmallImages, "_crop", lambda self, *given: cut.append(1) or really(self, *given))
    next(data.batches(1, start=2))
    assert len(cut) == 2  # two views of one batch


def test_draws_begin_in_the_middle_too() -> None:
    data = source(shift=1)
    late = [data.shown(draw) for draw in data.draws(2, start=1)]
    assert all(same(a, b) for a, b in zip(list(data.batches(2))[1:], late, strict=True))


def test_a_source_of_before_is_begun_in_the_middle_by_leaving_batches_out() -> None:
    data = source()

    class Before:
        num_classes = 4

        def __len__(self) -> int:
            return len(data)

        def batches(self, epoch: int) -> Iterator[Batch]:
            return data.batches(epoch)

    assert not stated(Before())
    whole = shares.__wrapped__ if hasattr(shares, "__wrapped__") else shares
    assert all(same(a, b) for a, b in zip(whole(Before(), 1, start=1), data.batches(1, start=1), strict=True))


def test_resident_images_state_every_fact() -> None:
    data = source(13, passes=2, shift=1, classes=("a", "b", "c", "d"))
    assert all(isinstance(data, what) for what in (Source, Divisible, Drawn, Countable))
    assert (data.classes, data.count, data.batch_size, data.variants) == (("a", "b", "c", "d"), 13, 5, 18)
    assert epoch_images(data) == sum(len(batch) for batch in data.batches(1)) == 26
    assert class_counts(data) == (4, 3, 3, 3)
    assert normalization_of(data) == RULE
    assert list(data.forms) == [*range(0, 18, 2)]
    assert list(source(flip=True).forms) == [0, 1]


def test_facts_that_a_source_does_not_state_are_unknown() -> None:
    silent = SimpleNamespace(num_classes=2)
    assert class_counts(silent) is normalization_of(silent) is fingerprint_of(silent) is None


@pytest.mark.parametrize("options", [{"augment": noisy}, {"mixup": 1.0}, {"cutmix": 1.0}])
def test_forms_that_cannot_be_counted_are_not(options: dict[str, object]) -> None:
    data = source(shift=1, **options)
    assert data.variants is None
    assert len(data.forms) == 0
    assert all(batch.variant is None for batch in data.batches(1))


def test_a_form_is_what_a_batch_shows() -> None:
    data = source(shift=2, flip=True)
    for batch in data.batches(1):
        for i, variant in zip(batch.index, batch.variant.tolist(), strict=True):
            assert torch.equal(data.form(i[None], variant)[0], batch.images[batch.index == i][0])


def test_few_labels_of_a_great_many_classes_need_no_table_of_images_and_classes() -> None:
    n = 200_000  # such a table would have 2e10 entries
    target = torch.arange(n // 2).repeat(2)
    images = Labelled(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), target, n // 2)
    assert torch.equal(few(images, 1).target, torch.arange(n // 2))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_few_are_the_first_of_every_class_in_their_order(k: int) -> None:
    target = torch.randint(0, 5, (100,), generator=torch.Generator().manual_seed(k))
    images = torch.arange(100, dtype=torch.uint8).reshape(100, 1, 1, 1)
    seen = [0] * 5
    expected = []
    for i, label in enumerate(target.tolist()):
        seen[label] += 1
        expected += [i] if seen[label] <= k else []
    assert few(Labelled(images, target, 5), k).images.flatten().tolist() == expected


def test_a_batch_says_how_its_pixels_were_normalised() -> None:
    batch = next(source(mixup=1.0, strong=AUGMENTATIONS["cutout"]).batches(1))
    assert batch.normalization == batch.at(slice(0, 2)).normalization == RULE


def test_a_network_of_the_same_normalisation_sees_the_very_same_tensor() -> None:
    batch = next(source().batches(1))
    assert batch.seen_by(RULE) is batch
    assert batch.seen_by(None) is batch


def test_a_network_of_another_normalisation_sees_the_same_pixels_in_its_own_way() -> None:
    theirs = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    options = {"shift": 1, "strong": AUGMENTATIONS["cutout"]}
    ours, expected = (next(source(normalization=rule, **options).batches(1)) for rule in (RULE, theirs))
    seen = ours.seen_by(theirs)
    torch.testing.assert_close(seen.images, expected.images, rtol=0, atol=2e-6)
    torch.testing.assert_close(seen.strong, expected.strong, rtol=0, atol=2e-6)
    assert seen.normalization == theirs
    pixels = ours.seen_by(Normalization.none(3)).images
    torch.testing.assert_close(pixels * 255, (pixels * 255).round(), rtol=0, atol=1e-4)
    assert 0 <= float(pixels.min() + 1e-6) < float(pixels.max()) <= 1 + 1e-6


def test_images_of_which_nobody_said_how_they_are_normalised_are_not_normalised_again() -> None:
    batch = replace(next(source().batches(1)), normalization=None)
    with pytest.raises(ValueError, match="not known how these images were normalised"):
        batch.seen_by(RULE)
    with pytest.raises(ValueError, match="3 channels"):
        next(source().batches(1)).seen_by(Normalization((0.5,), (0.5,)))


def test_a_channel_that_never_changes_is_divided_by_1() -> None:
    images = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8)
    images[:, 1] = 37
    rule = Normalization.of(images)
    assert rule.std[1] == 1.0
    assert rule(images)[:, 1].abs().max() < 1e-6
    assert all(s != 1.0 for s in (rule.std[0], rule.std[2]))


def test_a_fingerprint_tells_the_images_their_labels_and_their_order_and_nothing_else() -> None:
    images = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])

    def known(images: torch.Tensor = images, labels: torch.Tensor = labels, **options: object) -> str:
        settings = {"num_classes": 2, "normalization": Normalization((0.5,), (0.5,)), "batch_size": 2, **options}
        return SmallImages(images, labels, **settings).fingerprint()

    same_ones = [
        {},
        {"shift": 1},
        {"flip": True, "seed": 3},
        {"batch_size": 3},
        {"normalization": Normalization.of(images)},
    ]
    assert len({known(**options) for options in same_ones}) == 1
    one_pixel = images.clone()
    one_pixel[3, 0, 2, 2] ^= 1
    others = [
        known(one_pixel),
        known(labels=labels.flip(0)),
        known(images.flip(0), labels.flip(0)),
        known(classes=("cat", "dog")),
        known(listing="of files"),
    ]
    assert len({known(), *others}) == len(others) + 1


def test_a_hash_is_fed_what_decides_the_forms() -> None:
    def fed(data: SmallImages) -> str:
        found = hashlib.sha256()
        data.feed(found.update)
        return found.hexdigest()

    data = source(shift=1)
    assert fed(data) == fed(source(shift=1, seed=9))
    assert len({fed(data), fed(source(shift=2)), fed(source(shift=1, flip=True)), fed(source(12, shift=1))}) == 4
