"""Numbers of the looking commands by hand: samples of sources, bins, profiles, classes, probes."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO, StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from fractionate.config.data import Data
from fractionate.config.run import Network
from fractionate.data import Batch
from fractionate.probe.cost import Machine
from fractionate.probe.doctor import FAR, FAR_OF_GIVEN, WIDE, _classes, _disk, _look, _memory, _normalization
from fractionate.probe.examples import png
from fractionate.probe.linear import SHIFT, Probed, probe_settings
from fractionate.probe.measure import _bins, no_weights
from fractionate.probe.predict import Said, pixels_of
from fractionate.probe.profile import FORWARD, Part, Profile, _cells, _together
from fractionate.probe.sample import Sampled, Thinned, sampled
from fractionate.tasks.classification import Calibration
from tests.train.runs import tiny


class Numbers:
    """A source whose images are their own numbers."""

    def __init__(self, count: int, batch_size: int, labelled: int | None = None) -> None:
        self.count, self.batch_size, self.labelled = count, batch_size, labelled
        self.num_classes, self.classes, self.variants = 2, ("a", "b"), None

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for first in range(start * self.batch_size, self.count, self.batch_size):
            index = torch.arange(first, min(first + self.batch_size, self.count))
            images = index.float()[:, None, None, None].expand(-1, 1, 2, 2)
            yield Batch(images, index % 2, index, labelled=self.labelled)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 30])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_every_so_manieth_image_is_taken_wherever_a_source_begins(step: int, start: int) -> None:
    whole: Any = Numbers(23, 5)
    thin = Thinned(whole, step)
    seen = [int(i) for batch in thin.batches(1, start) for i in batch.index]
    assert seen == [i for i in range(start * 5, 23) if i % step == 0]
    assert thin.count == len([i for i in range(23) if i % step == 0])
    assert all(len(batch) <= thin.batch_size for batch in thin.batches(1))
    assert all(torch.equal(batch.images[:, 0, 0, 0], batch.index.float()) for batch in thin.batches(1))
    assert len(thin) == 5


@pytest.mark.usefixtures("unchecked")
def test_of_the_labelled_images_of_a_batch_about_the_same_share_is_left() -> None:
    whole: Any = Numbers(8, 8, labelled=4)
    assert [batch.labelled for batch in Thinned(whole, 2).batches(1)] == [2]
    assert [batch.labelled for batch in Thinned(whole, 3).batches(1)] == [2]


@pytest.mark.usefixtures("unchecked")
def test_a_sample_states_the_facts_of_all() -> None:
    some: Any = Numbers(4, 2)
    found = Sampled(some, (10, 13), batch_size=4, passes=3)
    assert (found.count, len(found), found.num_classes) == (23, 18, 2)
    assert [len(batch) for batch in found.batches(1, 1)] == [2]
    assert len(Sampled(some, (10, 13), batch_size=4)) == 6


def test_a_sample_of_a_folder_trains_on_its_training_images_and_measures_on_the_others(tmp_path: Path) -> None:
    for part, count, shade in (("train", 3, 200), ("val", 2, 50)):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for n in range(count):
                Image.new("L", (8, 8), shade + n).save(tmp_path / part / name / f"{n}.png")
    data = Data("folder", root=str(tmp_path), size=8, batch_size=4)
    train, test = sampled(data, 0, torch.device("cpu"))
    assert (train.count, test.count) == (6, 4)
    means = [next(iter(source.batches(1))).images.mean() for source in (train, test)]
    assert means[0] > means[1]


def test_a_source_that_does_not_say_how_often_it_shows_an_image_shows_it_once() -> None:
    whole: Any = Numbers(5, 2)
    whole.class_counts = (3, 2)
    assert _classes(whole) == "2 classes with 2 to 3 images per epoch"
    whole.passes = 4
    assert _classes(whole) == "2 classes with 8 to 12 images per epoch"


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB")])
def test_a_picture_of_the_page_has_the_colours_of_its_pixels(channels: int, mode: str) -> None:
    pixels = torch.randint(256, (channels, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with Image.open(BytesIO(png(pixels))) as found:
        assert (found.mode, found.size) == (mode, (7, 5))
        shown = torch.from_numpy(np.array(found)).reshape(5, 7, -1).permute(2, 0, 1)
    assert torch.equal(shown, pixels[: len(mode)])


# -- what is printed --------------------------------------------------------------------------------


def test_a_bin_is_shown_with_its_ends_in_percent() -> None:
    table = _bins(Calibration((0.25, None, 0.9, 0.96), (0.5, None, 0.75, 1.0), (1200, 0, 4, 1)), "images")
    text = StringIO()
    Console(file=text, width=100).print(table)
    rows = [" ".join(line.strip("│┃ ").replace("│", " ").split()) for line in text.getvalue().splitlines()]
    assert "0.0 - 25.0 25.00 50.00 1,200" in rows
    assert "50.0 - 75.0 90.00 75.00 4" in rows
    assert "75.0 - 100.0 96.00 100.00 1" in rows
    assert not any("25.0 - 50.0" in row for row in rows)


def profile() -> Profile:
    parts = (
        Part("data", 0.5, 0, 10**6, 0.25),
        Part(FORWARD, 1.0, 2 * 10**9, 10**6, 0.5),
        Part("backward, task", 2.0, 4 * 10**9, 10**6, 0.5),
        Part("backward, kd", 4.0, 4 * 10**9, 10**6, 0.5),
        Part("update", 0.5, 0, 10**6, 0.25),
    )
    return Profile(parts, 64, Machine(1e9, 1e9))


def test_a_step_is_the_sum_of_its_parts_and_passes_are_compared_with_one() -> None:
    found = profile()
    assert found.seconds == 8.0
    assert found.passes == pytest.approx((1.5 + 6.0) / (1.5 + 3.0))
    assert Profile(found.parts[:3], 64, found.machine).passes is None
    whole = _together(found)
    assert (whole.seconds, whole.flops, whole.bytes, whole.floor) == (8.0, 10**10, 5 * 10**6, 2.0)
    assert _cells(found.parts[1], 8.0) == [FORWARD, "1000.00", "12.5", "2.000", "1.0", "500.00", "0.50"]


def test_weights_that_are_missing_are_told_from_those_that_are_there(tmp_path: Path) -> None:
    file = tmp_path / "x.pth"
    assert no_weights(Network("resnet8")) == "the run's config names no checkpoint of it"
    assert no_weights(Network("timm:resnet18", pretrained=True)) is None
    assert str(no_weights(Network("resnet8", str(file)))).endswith("is not there")
    file.touch()
    assert no_weights(Network("resnet8", str(file))) is None


def test_what_is_said_of_a_picture_is_plain_data() -> None:
    said = Said(Path("a.png"), [("cat", 0.75), ("dog", 0.25)], None)
    assert said.plain() == {
        "picture": "a.png",
        "student": [{"class": "cat", "probability": 0.75}, {"class": "dog", "probability": 0.25}],
        "teacher": None,
    }


@pytest.mark.parametrize(("shape", "left", "top"), [((3, 4, 4), 0, 0), ((3, 2, 4), 0, 1), ((3, 4, 2), 1, 0)])
def test_a_picture_is_cut_out_in_the_middle(shape: tuple[int, int, int], left: int, top: int, tmp_path: Path) -> None:

    pixels = torch.arange(48, dtype=torch.uint8).reshape(4, 4, 3)
    Image.fromarray(pixels.numpy()).save(tmp_path / "x.png")
    whole = pixels.permute(2, 0, 1)
    found = pixels_of(tmp_path / "x.png", shape)
    assert torch.equal(found, whole[:, top : top + shape[1], left : left + shape[2]])
    grey = pixels_of(tmp_path / "x.png", (1, *shape[1:]))
    by_pillow = torch.from_numpy(np.array(Image.open(tmp_path / "x.png").convert("L")))
    assert (grey[0].int() - by_pillow[top : top + shape[1], left : left + shape[2]].int()).abs().max() <= 1
    assert grey.dtype == torch.uint8


# -- probes -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
def test_the_best_epoch_counts_from_one_and_of_equal_ones_the_first_is_named() -> None:
    def at(score: float) -> Any:
        return SimpleNamespace(score=score)

    found = Probed((at(1.0), at(3.0), at(3.0), at(2.0)), 5)
    assert (found.best_epoch, found.best.score, found.last.score) == (2, 3.0, 2.0)


@pytest.mark.parametrize(
    ("name", "size", "shift"), [("stl10", 32, SHIFT), ("tiny-imagenet", 32, 0), ("cifar10", None, 0), ("cub200", 32, 0)]
)
def test_a_probe_s_images_have_the_side_of_those_that_the_student_saw(name: Any, size: Any, shift: int) -> None:
    from fractionate.config.data import Data

    trained = tiny("ce", data=Data("cifar100"), device="cpu", threads=3)
    run = probe_settings(name, trained)
    assert (run.data.size, run.data.shift, run.data.batch_size) == (size, shift, 64)
    assert (run.optimizer.lr, run.optimizer.momentum, run.optimizer.weight_decay) == (0.05, 0.9, 5e-4)
    assert (run.learning_rate.milestones, run.epochs, run.threads) == ((30, 60, 90), 120, 3)
    photos = tiny("ce", data=Data("folder", "x", size=48))
    assert probe_settings("cub200", photos).data.size == 48
    with pytest.raises(ValueError, match="at which size was the student trained"):
        probe_settings("cub200", tiny("ce", data=Data("folder", "x")))


# -- the doctor -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("shift", "scale", "good"),
    [
        *((0.0, 1.0, True), (0.9 * FAR, 1.0, True), (FAR + 0.1, 1.0, False), (-FAR - 0.1, 1.0, False)),
        *((0.0, WIDE[0] * 0.9, False), (0.0, WIDE[1] * 1.1, False)),
        *((0.0, WIDE[0] * 1.1, True), (0.0, WIDE[1] * 0.9, True)),
    ],
)
def test_images_are_expected_about_zero_with_a_deviation_about_one(shift: float, scale: float, good: bool) -> None:
    x = torch.tensor([-1.0, 1.0]).repeat(8).reshape(2, 1, 2, 4)
    x = shift + scale * x / x.std()
    source: Any = SimpleNamespace(batches=lambda epoch: iter([SimpleNamespace(images=x)]), normalization=None)
    assert _look("normalisation", lambda: _normalization(source)).ok is good
    assert (FAR, FAR_OF_GIVEN, WIDE) == (1.0, 2.0, (0.3, 3.0))


def test_a_finding_says_what_is_wrong_and_what_to_do() -> None:
    def fails(words: str) -> Any:
        raise ValueError(words)

    both, one = (_look("x", lambda words=words: fails(words)) for words in ("a; b;\n c; do it", "a b"))
    assert (both.ok, both.found, both.advice) == (False, "a; b; c", "do it")
    assert (one.found, one.advice) == ("a b", "")
    assert (_look("x", lambda: "fine").ok, _look("x", lambda: "fine; so").found) == (True, "fine; so")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("free", "good"), [(300, True), (299, False)])
def test_room_is_needed_for_one_checkpoint_more_than_is_kept(free: int, good: bool, monkeypatch: Any) -> None:
    from fractionate.probe import doctor

    monkeypatch.setattr(doctor, "kept_bytes", lambda training: 100)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    training: Any = SimpleNamespace(run=SimpleNamespace(keep=2))
    assert _look("disk", lambda: _disk(training, Path("no/such/folder"))).ok is good


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("free", "good"), [(1000, True), (999, False), (None, True)])
def test_nine_tenths_of_the_free_memory_may_be_filled(free: int | None, good: bool, monkeypatch: Any) -> None:
    from fractionate.probe import doctor

    for name, value in (("kept_bytes", 600), ("graph_bytes", 300), ("free_bytes", free)):
        monkeypatch.setattr(doctor, name, lambda _, value=value: value)
    training: Any = SimpleNamespace(student=torch.nn.Linear(1, 1))
    assert _look("memory", lambda: _memory(training)).ok is good
