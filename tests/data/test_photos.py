"""Photos that are loaded one by one: the same batches however many processes make them, and wherever one begins."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from fractionate.config.data import Data
from fractionate.data import Batch, Photos, kept, shares
from fractionate.data.augment.photo import Shown, drawn_box, drawn_by, keyed
from fractionate.data.images import View, read_bounded, read_image
from fractionate.data.kept import Bounded, Pictures, Squared, keep, readable
from fractionate.train.photos import loaded
from tests.data import pillow

pytest.importorskip("torchvision")


def photo(where: Path, size: tuple[int, int], seed: int, **how: object) -> Path:
    """A picture of colours in smooth blotches."""
    where.parent.mkdir(parents=True, exist_ok=True)
    small = torch.randint(0, 256, (6, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    Image.fromarray(small.numpy()).resize(size, Image.Resampling.BICUBIC).save(where, **how)  # type: ignore[arg-type]
    return where


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 15 photos of many sizes."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(30):
        photo(folder / "ab"[i % 2] / f"{i:02}.jpg", (40 + 7 * (i % 5), 52 - 3 * (i % 4)), i)
    return folder


def both(root: Path, **fields: object) -> tuple[Photos, Photos]:
    data = Data(name="folder", root=str(root), size=16, **{"workers": 0, "batch_size": 7, "flip": True, **fields})  # type: ignore[arg-type]
    train, test = loaded(data, 5, torch.device("cpu"), lambda size: 4)
    assert isinstance(train, Photos)
    assert isinstance(test, Photos)
    return train, test


def equal(one: Batch, other: Batch) -> bool:
    tensors = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in tensors)


WAYS: list[dict[str, object]] = [
    {},
    {"resized_crop": False, "shift": 2, "strong": "randaugment"},
    {"augment": "randaugment-2-9", "erasing": 0.5, "mixup": 0.2, "cutmix": 1.0},
    {"augment": "trivialaugment", "repeats": 3, "strong": "cutout", "passes": 2, "interpolation": "bicubic"},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "+".join(way) or "plain")
def test_batches_are_the_same_for_any_number_of_workers_and_any_beginning(way: dict[str, object], root: Path) -> None:
    alone, helped = both(root, **way)[0], both(root, workers=2, **way)[0]
    epochs = [list(alone.batches(epoch)) for epoch in (1, 2)]
    assert len(epochs[0]) == len(alone)
    for epoch, batches in enumerate(epochs, 1):
        for source in (alone, helped):
            assert all(map(equal, source.batches(epoch), batches))
            rest = list(source.batches(epoch, start=2))
            assert len(rest) == len(batches) - 2
            assert all(map(equal, rest, batches[2:]))
    assert not torch.equal(epochs[0][0].images, epochs[1][0].images)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "+".join(way) or "plain")
@pytest.mark.parametrize("count", [2, 5])
def test_the_parts_of_processes_make_up_the_batches_of_one(way: dict[str, object], count: int, root: Path) -> None:
    source, _ = both(root, **way)
    parts = [list(shares(source, 1, i, count)) for i in range(count)]
    for number, batch in enumerate(source.batches(1)):
        own = [part[number] for part in parts]
        assert sum(part.share for part in own) == pytest.approx(1)
        assert torch.equal(torch.cat([part.images for part in own if part.share]), batch.images)
        assert torch.equal(torch.cat([part.target for part in own if part.share]), batch.target)
        assert all(part.whole == len(batch) and len(part) for part in own)


def test_what_lies_before_the_beginning_is_not_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: Counter[str] = Counter()

    def counted(path: Path, bound: int) -> torch.Tensor:
        decoded[path.name] += 1
        return read_bounded(path, bound)

    monkeypatch.setattr(kept, "read_bounded", counted)
    source, _ = both(root)
    list(source.batches(1, start=2))
    assert sum(decoded.values()) == source.count - 2 * source.batch_size
    decoded.clear()
    own = list(shares(source, 1, 1, 2))
    assert sum(decoded.values()) == sum(map(len, own)) < source.count


def test_an_image_s_augmentation_depends_on_seed_epoch_and_number_alone(root: Path) -> None:
    source, _ = both(root)
    found: dict[int, torch.Tensor] = {}
    for batch in source.batches(3):
        found |= dict(zip(batch.index.tolist(), batch.images, strict=True))
    larger = replace(source, batch_size=11)
    for batch in larger.batches(3):
        assert all(torch.equal(found[i], x) for i, x in zip(batch.index.tolist(), batch.images, strict=True))
    other = next(iter(replace(source, seed=6).batches(3)))
    assert not any(torch.equal(found[i], x) for i, x in zip(other.index.tolist(), other.images, strict=True))


def test_making_batches_does_not_move_torch_s_generator(root: Path) -> None:
    source, _ = both(root, augment="trivialaugment", erasing=1.0, workers=1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    list(source.batches(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_epoch_shows_every_image_once_and_repeats_show_some_of_them_anew(root: Path) -> None:
    source, _ = both(root)
    assert sorted(i for batch in source.batches(1) for i in batch.index.tolist()) == list(range(source.count))
    again = replace(source, repeats=3)
    numbers = torch.cat([batch.index for batch in again.batches(1)])
    assert len(numbers) == source.count
    assert set(Counter(numbers.tolist()).values()) == {3}
    first = next(iter(again.batches(1))).images
    assert not torch.equal(first[0], first[1])


def test_a_random_part_has_an_area_and_a_shape_in_range_and_lies_inside() -> None:
    rng = random.Random(0)
    for height, width in ((300, 400), (37, 512), (64, 64)):
        for _ in range(200):
            top, left, h, w = drawn_box(height, width, (0.2, 0.9), rng)
            assert 0 <= top <= height - h
            assert 0 <= left <= width - w
            assert h > 0 < w
            if height > 37:  # of a thin picture the middle is taken where nothing fits
                assert 0.19 < h * w / (height * width) < 0.91
            assert 0.7 < w / h < 1.4


def test_the_mean_area_and_shape_are_torchvision_s() -> None:
    from torchvision.transforms.v2 import RandomResizedCrop

    rule, rng = RandomResizedCrop(8, (0.08, 1.0)), random.Random(1)
    ours = torch.tensor([drawn_box(300, 400, (0.08, 1.0), rng) for _ in range(1500)]).double()
    torch.manual_seed(0)
    image = torch.zeros(3, 300, 400)
    theirs = [rule.make_params([image]) for _ in range(1500)]
    boxes = torch.tensor([[p["top"], p["left"], p["height"], p["width"]] for p in theirs]).double()
    spread = (ours.var(0) + boxes.var(0)).div(1500).sqrt()
    assert bool(((ours.mean(0) - boxes.mean(0)).abs() < 4 * spread).all())


def test_evaluation_sees_the_pixels_of_torchvision_s_pipeline(tmp_path: Path) -> None:
    from torchvision.transforms import v2

    for number, (size, mode) in enumerate(
        [((500, 375), "bilinear"), ((333, 500), "bicubic"), ((260, 250), "bilinear")]
    ):
        path = photo(tmp_path / f"{number}.png", size, number)
        how = v2.InterpolationMode(mode)
        theirs = v2.Compose([v2.Resize(256, how), v2.CenterCrop(224), v2.PILToTensor()])(Image.open(path))
        assert torch.equal(read_image(path, 224, View(0.875, mode)), theirs)  # type: ignore[arg-type]


def test_a_teacher_at_224_pixels_gives_the_logits_of_timm_s_own_pipeline(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from fractionate.data.layouts import IMAGENET

    net = timm.create_model("mobilenetv3_small_050", num_classes=10).eval()
    config = timm.data.resolve_data_config({"crop_pct": 0.875}, model=net)
    path = photo(tmp_path / "one.jpg", (640, 480), 3, quality=95)
    theirs = timm.data.create_transform(**config)(Image.open(path).convert("RGB"))[None]
    ours = IMAGENET(read_image(path, 224, View(0.875, config["interpolation"]))[None])
    with torch.no_grad():
        assert (net(theirs) - net(ours)).abs().max() <= 1e-4


def test_kept_pictures_are_those_of_the_files(root: Path, tmp_path: Path) -> None:
    plain, squares = both(root, batch_size=5)
    for source, reader in ((plain, Bounded(32)), (squares, Squared(16, View(0.875)))):
        told: list[str] = []
        file = keep(source.pictures.paths, reader, tmp_path, say=told.append)
        assert "30" in told[0] or "decoded pictures are kept" in told[0]
        assert file is not None
        pictures = replace(source.pictures, kept=file, places=range(source.count))
        assert all(torch.equal(pictures[i], source.pictures[i]) for i in range(source.count))
        assert keep(source.pictures.paths, reader, tmp_path, say=told.append) == file
        assert len(told) == 1


def test_a_kept_picture_that_was_damaged_is_decoded_again(root: Path, tmp_path: Path) -> None:
    source, _ = both(root)
    file = keep(source.pictures.paths, Bounded(32), tmp_path)
    assert file is not None
    whole = bytearray(file.read_bytes())
    whole[kept.HEAD.size + 100] ^= 1
    file.write_bytes(whole)
    pictures = replace(source.pictures, kept=file, places=range(source.count))
    assert torch.equal(pictures[0], source.pictures[0])
    file.write_bytes(whole[:-3])  # the table is cut
    assert keep(source.pictures.paths, Bounded(32), tmp_path) == file
    assert file.read_bytes()[-1:] != b""
    assert torch.equal(replace(pictures)[0], source.pictures[0])


def test_a_disk_without_room_keeps_nothing_and_says_so(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.warns(UserWarning, match="not free"):
        assert keep(both(root)[0].pictures.paths, Bounded(32), tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_large_jpegs_are_decoded_small_by_a_rule_of_the_file_and_the_bound(tmp_path: Path) -> None:
    path = photo(tmp_path / "large.jpg", (1600, 1200), 1, quality=92)
    whole = read_image(path, 1200)
    assert whole.shape == (3, 1200, 1200)
    small = read_bounded(path, 150)
    assert small.shape == (3, 150, 200)
    exact = Image.open(path).resize((200, 150), Image.Resampling.BILINEAR)
    difference = (small.float() - pillow.pixels(exact).float()).abs()
    assert difference.mean() < 2
    assert read_bounded(photo(tmp_path / "small.png", (40, 30), 2), 150).shape == (3, 30, 40)


def test_broken_photos_are_named_or_counted(root: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(root, tmp_path / "photos")
    bad = tmp_path / "photos" / "a" / "00.jpg"
    bad.write_bytes(bad.read_bytes()[:100])
    for workers in (0, 1):
        source, _ = both(tmp_path / "photos", workers=workers, evaluate_on="test")
        if str(bad) in map(str, source.pictures.paths):
            with pytest.raises(ValueError, match=r"00\.jpg cannot be read.*remove the file"):
                list(source.batches(1))
    with pytest.warns(UserWarning, match=r"skipped 1 of .*00\.jpg"):
        both(tmp_path / "photos", skip_broken=True)
    with pytest.raises(ValueError, match=r"00\.jpg"):
        readable([bad], Bounded(8), keep([bad], Bounded(8), tmp_path / "cache"))


def test_a_failure_of_the_augmentation_is_not_the_file_s_fault(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Shown, photo: torch.Tensor, *key: int) -> torch.Tensor:
        raise ValueError("bits must be between or equal to 1 and 8")

    monkeypatch.setattr(Shown, "__call__", failing)
    with pytest.raises(ValueError, match=r"^augmenting .*\.jpg ended in ValueError: bits must") as told:
        next(iter(both(root)[0].batches(1)))
    assert "remove" not in str(told.value)


def test_a_worker_that_ends_without_a_word_is_told_all_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that ends raises an EOFError, which has no text."""

    class Ends:
        def __iter__(self) -> Iterator[Any]:
            yield from ()
            raise EOFError

    source, _ = both(root, workers=1, batch_size=2)
    monkeypatch.setattr(source._loading, "_started", Ends)
    with pytest.raises(ChildProcessError, match=r"loads photos has ended \(EOFError\)"):
        list(source.batches(1))


def test_a_worker_that_is_killed_ends_the_epoch_in_one_line(root: Path) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a loader of another test may have left torch's handler there
    source, _ = both(root, workers=1, batch_size=2)
    batches = source.batches(1)
    next(batches), next(batches)
    os.kill(source._loading.loader._iterator._workers[0].pid, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match="loads photos has ended"):
        list(batches)
    assert len(list(source.batches(1))) == len(source)  # and others take its place


def test_a_second_reader_in_the_middle_of_an_epoch_gets_its_batches_too(root: Path) -> None:
    source, _ = both(root, workers=1, batch_size=4)
    expected = list(both(root, batch_size=4)[0].batches(1))
    first = source.batches(1)
    begun = [next(first), next(first)]
    assert equal(next(iter(source.batches(1))), expected[0])
    assert all(map(equal, [*begun, *first], expected))


def test_pixels_of_erased_patches_are_the_mean_colour() -> None:
    image = Shown(16, crop="pad", flip=False, erasing=1.0)(torch.zeros(3, 16, 16, dtype=torch.uint8), 1)
    assert set(map(tuple, image.flatten(1).T.tolist())) == {(0, 0, 0), (124, 116, 104)}


def test_drawing_by_a_number_leaves_the_generator_where_it_was() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with drawn_by(keyed(1, 2)):
        first = torch.rand(2)
    with drawn_by(keyed(1, 2)):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"workers": None, "erasing": 0.5}, "data.workers"),
        ({"workers": None, "augment": "trivialaugment"}, "data.workers"),
        ({"workers": -1}, "workers"),
        ({"crop_scale": (0.5, 0.2)}, "smallest"),
        ({"shift": 2}, "resized_crop"),
        ({"unlabelled": "x"}, "no folder x"),
        ({"erasing": 1.5}, "erasing"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields: dict[str, object], word: str, root: Path) -> None:
    with pytest.raises(ValueError, match=word):
        both(root, **fields)


def test_sets_without_files_have_no_workers() -> None:
    with pytest.raises(ValueError, match="digits"):
        Data(name="digits", workers=1)


def test_pictures_go_to_other_processes(root: Path, tmp_path: Path) -> None:
    import pickle

    source, _ = both(root)
    file = keep(source.pictures.paths, Bounded(32), tmp_path)
    pictures = Pictures(source.pictures.paths, Bounded(32), file, range(source.count))
    first = pictures[0]
    assert torch.equal(pickle.loads(pickle.dumps(pictures))[0], first)
