"""Batches of two sources: all images come, in a fixed order, from any place in an epoch; nobody sees hidden labels."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from fractionate.config.data import Data
from fractionate.data import Batch, Joined, Normalization, SmallImages, folder, pieces, unlabelled, unlabelled_count
from fractionate.data.source import shares
from fractionate.data.stl10 import stl10_unlabelled
from fractionate.data.unlabelled import pictures_below
from fractionate.train.sources import sources
from tests.data import photo_trees as trees

RULE = Normalization((0.5,), (0.5,))


def images(count: int, first: int = 0) -> torch.Tensor:
    """Every image has one tone of its own."""
    return (first + torch.arange(count)).byte()[:, None, None, None].expand(count, 1, 4, 4).clone()


def source(count: int, batch_size: int, first: int = 0, *, labels: bool = True, **options: object) -> SmallImages:
    target = torch.arange(count) % 3 if labels else torch.full((count,), -1)
    return SmallImages(images(count, first), target, 3, RULE, batch_size=batch_size, flip=True, **options)


def both(known: int = 6, unknown: int = 20, **options: object) -> Joined:
    return Joined(source(known, 4, **options), source(unknown, 5, 100, labels=False, seed=9, **options))


def tones(batch: Batch) -> list[int]:
    return ((batch.images[:, 0, 0, 0] * 0.5 + 0.5) * 255).round().long().tolist()


@pytest.mark.parametrize(("known", "unknown"), [(6, 20), (40, 10), (8, 10)])
def test_an_epoch_shows_all_of_the_longer_set_once_and_goes_on_with_the_other(known: int, unknown: int) -> None:
    data = both(known, unknown)
    assert len(data) == max(-(-known // 4), unknown // 5)
    seen = [tone for epoch in (1, 2) for batch in data.batches(epoch) for tone in tones(batch)]
    count = torch.bincount(torch.tensor(seen), minlength=200)
    mine, others = count[:known], count[100 : 100 + unknown]
    assert (mine if known / 4 > unknown / 5 else others).tolist() == [2] * max(known, unknown)
    for shown in (mine, others):
        assert int(shown.max() - shown.min()) <= 1  # whole passes, and the beginning of another
    assert count.sum() == mine.sum() + others.sum()


def test_any_place_in_an_epoch_gives_the_batches_of_the_whole_epoch() -> None:
    data = both(7, 23)
    for epoch in (1, 3):
        whole = list(data.batches(epoch))
        assert len(whole) == len(data)
        for start in range(len(whole) + 1):
            rest = list(data.batches(epoch, start))
            assert len(rest) == len(whole) - start
            for a, b in zip(rest, whole[start:], strict=True):
                assert torch.equal(a.images, b.images)
                assert torch.equal(a.target, b.target)
                assert torch.equal(a.index, b.index)


def test_labels_belong_to_their_images_and_the_others_have_none() -> None:
    data = both()
    for batch in data.batches(1):
        known = batch.target >= 0
        assert batch.labelled == int(known.sum())
        assert [t < 100 for t in tones(batch)] == known.tolist()
        own = [t for t in tones(batch) if t < 100]
        assert batch.target[known].tolist() == [t % 3 for t in own]
        assert batch.index.tolist() == [t if t < 100 else t - 100 + 6 for t in tones(batch)]
    assert (unlabelled_count(data), data.count, data.class_counts) == (20, 26, (2, 2, 2))


def test_both_kinds_lie_evenly_in_every_part() -> None:
    batch = next(Joined(source(8, 8), source(24, 24, 100, labels=False)).batches(1))
    for part in pieces(batch, 4):
        assert int((part.target >= 0).sum()) == 2
        assert (part.labelled, part.whole) == (8, 32)
    shown = [next(iter(shares(both(), 1, i, 2))) for i in range(2)]
    assert sorted(t for p in shown for t in tones(p)) == sorted(tones(next(both().batches(1))))


def test_mixed_labels_leave_images_without_labels_without() -> None:
    data = both(mixup=0.4, cutmix=1.0)
    for batch in data.batches(1):
        sums = batch.target.sum(1)
        assert torch.allclose(sums, (sums > 0.5).float())
        assert int((sums > 0.5).sum()) == batch.labelled
    alone = next(source(6, 6, labels=False, mixup=0.4).batches(1))
    assert alone.labelled == 0
    assert alone.target.tolist() == [-1] * 6


def test_sources_that_differ_are_refused() -> None:
    other = SmallImages(images(4), torch.zeros(4).long(), 3, Normalization((0.1,), (0.5,)), batch_size=2)
    with pytest.raises(ValueError, match="normalised alike"):
        Joined(source(4, 2), other)
    with pytest.raises(ValueError, match="second view"):
        next(Joined(source(4, 2, strong=lambda x, g: x), source(4, 2)).batches(1))
    with pytest.raises(ValueError, match=r"0\.\.2, got -1\.\.1"):
        SmallImages(images(3), torch.tensor([-1, 0, 1]), 3, RULE, batch_size=1)


# -- folders -----------------------------------------------------------------------------------


def labelled_folder(root: Path, train: int = 4) -> Path:
    for part, count in (("train", train), ("test", 2)):
        for label, name in enumerate(("ant", "bee", "cow")):
            for i in range(count):
                own(root / part / name / f"{i}.png", label)
    return root


def own(path: Path, label: int) -> None:
    """A picture whose file is a copy of no other: its name is written behind it."""
    trees.picture(path, label, kind="PNG")
    path.write_bytes(path.read_bytes() + str(path).encode())


def loose(root: Path, count: int = 9) -> None:
    for i in range(count):
        own(root / f"{i}.png", i % 3)


def test_pictures_anywhere_below_a_folder_have_no_labels(tmp_path: Path) -> None:
    loose(tmp_path / "a" / "test", 2)
    loose(tmp_path, 3)
    (tmp_path / ".hidden").mkdir()
    loose(tmp_path / ".hidden", 1)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "x.svg").write_text("x")
    with pytest.warns(UserWarning, match="1 file is no picture"):
        paths = pictures_below(tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        "0.png",
        "1.png",
        "2.png",
        "a/test/0.png",
        "a/test/1.png",
    ]
    with pytest.warns(UserWarning, match="left out"):
        found = unlabelled(tmp_path, 8, 3)
    assert found.target.tolist() == [-1] * 5
    assert trees.labels_seen(found.images) == [0, 1, 2, 0, 1]


def test_a_train_folder_of_loose_pictures_beside_a_labelled_test_has_no_labels(tmp_path: Path) -> None:
    labelled_folder(tmp_path, train=0)
    loose(tmp_path / "train")
    train, test = (folder(tmp_path, part, 8) for part in ("train", "test"))
    assert train.target.tolist() == [-1] * 9
    assert train.classes == test.classes == ("ant", "bee", "cow")
    assert trees.labels_seen(test.images) == test.target.tolist()
    with pytest.raises(ValueError, match="no validation part: the training images have no labels"):
        folder(tmp_path, "validation", 8)
    for label, name in enumerate(train.classes):
        trees.picture(tmp_path / "val" / name / "0.png", label, kind="PNG")
    assert trees.labels_seen(folder(tmp_path, "validation", 8).images) == [0, 1, 2]
    with pytest.raises(ValueError, match="have no labels; leave it out"):
        sources(Data("folder", root=str(tmp_path), labels_per_class=1), 0, torch.device("cpu"))


def test_a_folder_joins_the_labelled_images_of_a_run(tmp_path: Path) -> None:
    labelled_folder(tmp_path / "few")
    loose(tmp_path / "many", 20)
    data = Data(
        "folder",
        root=str(tmp_path / "few"),
        size=8,
        batch_size=6,
        unlabelled=str(tmp_path / "many"),
        unlabelled_batch=10,
        evaluate_on="test",
    )
    train, test = sources(data, 0, torch.device("cpu"))
    assert isinstance(train, Joined)
    assert (len(train), train.batch_size, unlabelled_count(train), test.count) == (2, 16, 20, 6)
    with pytest.raises(ValueError, match="no folder"):
        sources(Data("folder", root=str(tmp_path / "few"), unlabelled=str(tmp_path / "none")), 0, torch.device("cpu"))


@pytest.mark.parametrize("workers", [None, 0])
@pytest.mark.parametrize("part", ["test", "validation"])
def test_images_that_are_measured_on_are_not_learnt_from_without_labels(
    workers: int | None, part: Literal["test", "validation"], tmp_path: Path
) -> None:
    root = labelled_folder(tmp_path / "few", train=20)
    data = Data("folder", root=str(root), size=8, batch_size=6, shift=0, workers=workers, unlabelled=str(root))
    with pytest.raises(ValueError, match=r"holds \d+ of the images that are measured on .*data.unlabelled=all"):
        sources(replace(data, evaluate_on=part), 0, torch.device("cpu"))
    apart = replace(data, unlabelled=str(root / "train"), evaluate_on="test")
    assert unlabelled_count(sources(apart, 0, torch.device("cpu"))[0]) == len(list((root / "train").rglob("*.*")))


def test_copies_of_images_that_are_measured_on_are_refused_under_other_names_and_no_others(tmp_path: Path) -> None:
    """Pictures of one size in bytes, of one beginning, and links to nowhere are no copies."""
    for folder_name in ("test", "more"):
        (tmp_path / folder_name).mkdir()
    held = [tmp_path / "test" / f"{i}.ppm" for i in range(3)]
    for tone, path in enumerate([*held, tmp_path / "more" / "other.ppm"]):
        path.write_bytes(b"P6 64 64 255\n" + bytes(64 * 64 * 3 - 1) + bytes([tone]))
    (tmp_path / "more" / "gone.ppm").symlink_to(tmp_path / "nowhere.ppm")
    (tmp_path / "more" / "empty.ppm").touch()
    assert len(pictures_below(tmp_path / "more", held)) == 3
    (tmp_path / "more" / "renamed.ppm").write_bytes(held[1].read_bytes())
    with pytest.raises(
        ValueError, match=r"holds 1 of the images that are measured on, as copies of them \(renamed\.ppm, \.\.\.\)"
    ):
        pictures_below(tmp_path / "more", held)


def test_all_training_images_join_the_few_with_labels() -> None:
    train, _ = sources(Data(labels_per_class=2, batch_size=5, unlabelled="all"), 0, torch.device("cpu"))
    assert (train.count, unlabelled_count(train), train.class_counts) == (1221, 1201, (2,) * 10)
    fresh = [int((batch.target >= 0).sum()) for batch in train.batches(1)]
    assert set(fresh) == {5}
    assert len(fresh) == len(train) == 241


def test_stl10s_own_images_without_labels_join(tmp_path: Path) -> None:
    trees.stl_files(tmp_path, unlabelled=12)
    data = Data("stl10", root=str(tmp_path), size=16, batch_size=20, unlabelled=str(tmp_path), unlabelled_batch=3)
    train, _ = sources(data, 0, torch.device("cpu"))
    assert (unlabelled_count(train), len(train)) == (12, 4)


def test_stl10s_own_images_join_photos_that_are_loaded_one_by_one(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    labelled_folder(tmp_path / "few")
    trees.stl_files(tmp_path, unlabelled=12)
    data = Data("folder", root=str(tmp_path / "few"), size=96, batch_size=3, unlabelled=str(tmp_path), workers=0)
    train, _ = sources(replace(data, unlabelled_batch=6, crop_scale=(1.0, 1.0)), 0, torch.device("cpu"))
    assert isinstance(train, Joined)
    held = pickle.loads(pickle.dumps(train.unlabelled.pictures))  # type: ignore[attr-defined]
    assert torch.equal(torch.stack([held[i] for i in range(12)]), stl10_unlabelled(tmp_path))
    assert (unlabelled_count(train), {len(batch) for batch in train.batches(1)}) == (12, {9})


def test_pictures_of_another_kind_are_refused(tmp_path: Path) -> None:
    loose(tmp_path, 3)
    with pytest.raises(ValueError, match=r"\[1, 8, 8\] and those without \[3, 8, 8\]"):
        sources(Data(labels_per_class=2, unlabelled=str(tmp_path)), 0, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"belongs to data\.unlabelled"):
        Data(unlabelled_batch=3)


@pytest.mark.parametrize("what", ["all", "folder"])
def test_photos_that_are_loaded_one_by_one_are_joined_as_those_in_memory(what: str, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    labelled_folder(tmp_path / "few")
    loose(tmp_path / "many", 20)
    data = Data(
        "folder",
        root=str(tmp_path / "few"),
        size=8,
        workers=0,
        batch_size=3,
        flip=True,
        labels_per_class=2 if what == "all" else None,
        unlabelled="all" if what == "all" else str(tmp_path / "many"),
        unlabelled_batch=5,
    )
    train, _ = sources(data, 0, torch.device("cpu"))
    assert isinstance(train, Joined)
    assert unlabelled_count(train) == (12 if what == "all" else 20)
    assert train.class_counts == ((2,) * 3 if what == "all" else (4,) * 3)
    whole = list(train.batches(1))
    for batch in whole:
        assert batch.labelled == 3 == int((batch.target >= 0).sum())
        rule = train.normalization
        pixels = (batch.images * torch.tensor(rule.std)[:, None, None] + torch.tensor(rule.mean)[:, None, None]) * 255
        seen = torch.tensor(trees.labels_seen(pixels))
        known = batch.target >= 0
        assert torch.equal(seen[known], batch.target[known])
    for a, b in zip(train.batches(1, 1), whole[1:], strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.target, b.target)


def test_loaded_photos_without_any_label_have_none(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    labelled_folder(tmp_path, train=0)
    loose(tmp_path / "train")
    train, test = sources(Data("folder", root=str(tmp_path), size=8, workers=0, mixup=0.2), 0, torch.device("cpu"))
    assert (unlabelled_count(train), train.class_counts, test.class_counts) == (9, None, (2, 2, 2))
    batch = next(train.batches(1))
    assert (batch.labelled, batch.target.tolist()) == (0, [-1] * 9)
    with pytest.raises(ValueError, match="have no labels; leave it out"):
        sources(Data("folder", root=str(tmp_path), size=8, workers=0, labels_per_class=1), 0, torch.device("cpu"))
