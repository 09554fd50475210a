"""A kept logit is the live one; it is computed once, by whoever comes first, and damage is noticed."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fractionate.config.files import override
from fractionate.config.run import Network
from fractionate.data import Batch, Labelled, Normalization, SmallImages, cutout, few
from fractionate.data.cifar import NORMALIZATION
from fractionate.models import create
from fractionate.models.cifar import CIFAR
from fractionate.teachers.live import LiveTeacher, folded
from fractionate.teachers.rowfile import HEADER, RowFile, open_rows
from fractionate.teachers.table import TeacherTable, describe, fingerprint, tabled
from fractionate.train.build import prepare
from fractionate.train.loop import fit
from tests.train.runs import teacher_file, tiny

COUNT, SIDE, CLASSES = 11, 8, 10


def source(shift: int = 1, flip: bool = True, seed: int = 0, **changes: object) -> SmallImages:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (COUNT, 1, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    options = {"batch_size": 4, "shift": shift, "flip": flip, "seed": seed, **changes}
    return SmallImages(images, torch.arange(COUNT) % CLASSES, CLASSES, Normalization((0.4,), (0.3,)), **options)


def network(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return trained(create("convnet_8_16", num_classes=CLASSES))


def trained(net: nn.Module) -> nn.Module:
    """Statistics that folding has to respect."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.running_mean, -0.5, 0.5)
            nn.init.uniform_(m.running_var, 0.5, 2.0)
    return net


class Counting(nn.Module):
    """Counts the images that a network sees."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_forward_pre_hook(lambda _, args: self.seen.append(len(args[0])))
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def same_as_live(table: TeacherTable, data: SmallImages, epochs: int = 3, tolerance: float = 1e-5) -> None:
    live = LiveTeacher(table.net)
    for batch in (b for epoch in range(1, epochs + 1) for b in data.batches(epoch)):
        assert torch.allclose(table(batch)[0], live(batch)[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kept", ["in memory", "in a file"])
@pytest.mark.parametrize(("shift", "flip"), [(0, False), (0, True), (1, False), (2, True)])
def test_kept_logits_are_the_live_ones(shift: int, flip: bool, kept: str, tmp_path: Path) -> None:
    data = source(shift, flip)
    same_as_live(TeacherTable(network(), data, None if kept == "in memory" else tmp_path), data)


def test_a_full_table_is_the_live_teacher_too() -> None:
    data = source()
    table = tabled(LiveTeacher(network()), data, mode="full", say=lambda _: None)
    assert isinstance(table, TeacherTable)
    same_as_live(table, data)
    assert not bool(table.store.missing(torch.arange(COUNT * 18)).any())


def test_half_precision_keeps_three_digits_in_half_the_room(tmp_path: Path) -> None:
    data = source()
    half, whole = (TeacherTable(network(), data, tmp_path, dtype) for dtype in (torch.float16, torch.float32))
    same_as_live(half, data, tolerance=1e-3)
    rows = COUNT * data.variants
    assert (half.nbytes, whole.nbytes) == (rows * (2 * CLASSES + 4), rows * (4 * CLASSES + 4))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("variant", range(18))
def test_the_images_of_a_variant_are_those_of_the_batches(variant: int) -> None:
    data, found = source(), 0
    for batch in (b for epoch in range(1, 9) for b in data.batches(epoch)):
        for here in (batch.variant == variant).nonzero()[:, 0].tolist():
            assert torch.equal(data.form(batch.index[here, None], variant)[0], batch.images[here])
            found += 1
    assert found > 0


def pairs_of(batch: Batch) -> list[tuple[int, int]]:
    return list(zip(batch.index.tolist(), batch.variant.tolist(), strict=True))


def test_the_network_runs_once_for_each_image_shift_and_flip() -> None:
    net, data = Counting(network()), source(shift=0)
    table = TeacherTable(net, data)
    net.seen.clear()
    pairs = {pair for e in range(1, 9) for b in data.batches(e) for pair in pairs_of(b)}
    for batch in (b for epoch in range(1, 9) for b in data.batches(epoch)):
        table(batch)
    assert sum(net.seen) == len(pairs) <= COUNT * 2


def test_another_run_with_another_seed_reads_what_the_first_one_wrote(tmp_path: Path) -> None:
    net, other = Counting(network()), source(seed=9)
    tabled(LiveTeacher(net), source(), mode="full", folder=tmp_path, say=lambda _: None)
    table = TeacherTable(net, other, tmp_path)
    net.seen.clear()
    for batch in (b for epoch in range(1, 9) for b in other.batches(epoch)):
        table(batch)
    assert net.seen == []
    same_as_live(table, other)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folded_teacher_and_its_original_share_a_file(tmp_path: Path) -> None:
    data, net = source(), network()
    short = folded(net, data.form(torch.arange(4), 0))
    tabled(LiveTeacher(short), data, folder=tmp_path, mode="full", known_as=net, say=lambda _: None)
    table = TeacherTable(net, data, tmp_path)
    assert not bool(table.store.missing(torch.arange(COUNT * 18)).any())
    same_as_live(table, data)


def test_whatever_decides_the_logits_decides_the_file() -> None:
    darker = source()
    object.__setattr__(darker, "images", darker.images // 2)
    other_layer = network()
    next(m for m in other_layer.modules() if isinstance(m, nn.BatchNorm2d)).eps = 0.1
    flagged = network()
    flagged.published_bn = True
    sources = [source(), source(shift=2), source(flip=False), darker]
    sources.append(
        SmallImages(
            torch.zeros(3, 1, 8, 8, dtype=torch.uint8),
            torch.arange(3),
            CLASSES,
            Normalization((0.4,), (0.3,)),
            batch_size=4,
            shift=1,
            flip=True,
        )
    )
    object.__setattr__(sources[-1], "images", sources[0].images)
    object.__setattr__(sources[-1], "normalization", Normalization((0.5,), (0.3,)))
    keys = [fingerprint(network().eval(), data) for data in sources]
    keys += [fingerprint(net.eval(), source()) for net in (network(2), other_layer, flagged)]
    assert len(set(keys)) == len(keys)
    assert fingerprint(network().eval(), source(seed=3, batch_size=2)) == keys[0]


def test_strong_views_are_computed_live() -> None:
    data, net = source(strong=cutout), network()
    batch = next(data.batches(1))
    weak, strong = TeacherTable(net, data)(batch)
    expected = LiveTeacher(net)(batch)
    assert strong is not None
    assert torch.allclose(weak, expected[0], atol=1e-5)
    assert torch.equal(strong, expected[1])


def test_kept_logits_ignore_the_precision_around_them() -> None:
    data, net = source(), network()
    batch, table = next(data.batches(1)), TeacherTable(net, data)
    with torch.autocast("cpu", torch.bfloat16):
        found = table(batch)[0]
    assert torch.allclose(found, LiveTeacher(net)(batch)[0], atol=1e-5)


def test_kept_logits_may_enter_a_backward_pass() -> None:
    data = source()
    weak, _ = TeacherTable(network(), data)(next(data.batches(1)))
    z = torch.zeros_like(weak, requires_grad=True)
    (z * weak).sum().backward()
    assert torch.equal(z.grad, weak)


class Noisy(nn.Module):
    """Drops what it likes, in evaluation too."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, training=True)


@pytest.mark.parametrize("first", [nn.BatchNorm2d(1, track_running_stats=False), Noisy()])
def test_a_teacher_whose_answer_hangs_on_more_than_the_image_is_not_kept(first: nn.Module) -> None:
    """Of an image the table has one answer, for whatever batch it comes in."""
    net = nn.Sequential(first, nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES))
    with pytest.raises(ValueError, match=r"depends on the others in its batch.*use teacher_table=off"):
        TeacherTable(net, source())


def test_without_a_variant_there_is_nothing_to_read() -> None:
    batch, said = next(source().batches(1)), "are augmented by more than that; use teacher_table=off"
    with pytest.raises(ValueError, match=f"the images of this batch {said}"):
        TeacherTable(network(), source())(Batch(batch.images, batch.target, batch.index))
    for change in ({"augment": cutout}, {"mixup": 1.0}, {"cutmix": 1.0}):
        with pytest.raises(ValueError, match=f"these images {said}"):
            TeacherTable(network(), source(**change))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: os.truncate(file, 5000), "5000 bytes in place of"),
        (lambda file: overwrite(file, 20, b"?"), "its header is another one"),
    ],
)
def test_a_damaged_file_is_built_again(damage: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    data = source()
    same_as_live(TeacherTable(network(), data, tmp_path), data)
    damage(next(tmp_path.iterdir()))
    with pytest.warns(UserWarning, match=f"is damaged .{said}"):
        table = TeacherTable(network(), data, tmp_path)
    assert int(table.store.marks.count_nonzero()) == 0
    same_as_live(table, data)


@pytest.mark.parametrize("part", ["mark", "row"])
def test_a_damaged_row_is_computed_again(part: str, tmp_path: Path) -> None:
    data, net = source(shift=0, flip=False), network()
    tabled(LiveTeacher(net), data, mode="full", folder=tmp_path, say=lambda _: None)
    overwrite(
        next(tmp_path.iterdir()), HEADER + (4 * 3 if part == "mark" else 4 * 2 * COUNT + 4 * CLASSES * 3 + 5), b"\x55"
    )
    table = TeacherTable(net, data, tmp_path)
    assert table.store.missing(torch.arange(COUNT)).nonzero().flatten().tolist() == [3]
    same_as_live(table, data, epochs=1)
    assert not bool(table.store.missing(torch.arange(COUNT)).any())


def overwrite(file: Path, at: int, what: bytes) -> None:
    with file.open("r+b") as open_file:
        open_file.seek(at)
        open_file.write(what)


def test_a_network_whose_code_changed_is_noticed(tmp_path: Path) -> None:
    data = source()
    tabled(LiveTeacher(network()), data, mode="full", folder=tmp_path, say=lambda _: None)
    net = network()
    forward = net.forward
    net.forward = lambda x: 2 * forward(x)  # the same weights and layers
    with pytest.raises(ValueError, match="holds other logits than this teacher gives"):
        TeacherTable(net, data, tmp_path)


def _fill(folder: Path) -> None:
    torch.set_num_threads(1)
    tabled(LiveTeacher(network()), source(shift=2), mode="full", folder=folder, say=lambda _: None)


def test_two_processes_fill_one_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill, args=(tmp_path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1
    data = source(shift=2)
    table = TeacherTable(network(), data, tmp_path)
    assert not bool(table.store.missing(torch.arange(COUNT * data.variants)).any())
    same_as_live(table, data)


def test_a_file_takes_the_room_of_what_is_in_it(tmp_path: Path) -> None:
    file = open_rows(tmp_path / "a", "key", 1_000_000, 100, torch.float32)
    file.write(torch.tensor([500_000]), torch.ones(1, 100))
    assert (tmp_path / "a").stat().st_blocks * 512 < 1e6 < 4e8 < (tmp_path / "a").stat().st_size


def test_the_size_is_said_before_anything_is_computed() -> None:
    said, reports = [], []
    tabled(LiveTeacher(network()), source(), mode="full", say=said.append, report=lambda *x: reports.append(x))
    assert said == [
        "teacher table: 11 images x 18 shifts and flips x 10 classes, 8.71e-06 GB when full, 0 % there, in memory"
    ]
    done, total = zip(*reports, strict=True)
    assert set(total) == {COUNT * 18}
    assert all(a < b for a, b in pairwise((0, *done)))
    assert done[-1] == COUNT * 18
    assert "100 % there" in describe(tabled(LiveTeacher(network()), source(), mode="full", say=said.append))


def test_no_table_is_the_teacher_itself_and_others_are_refused() -> None:
    live = LiveTeacher(network())
    assert tabled(live, source(), mode="off") is live
    with pytest.raises(ValueError, match="did you mean 'lazy'"):
        tabled(live, source(), mode="lasy")
    with pytest.raises(ValueError, match="made from a LiveTeacher, got TeacherTable"):
        tabled(TeacherTable(network(), source()), source())
    with pytest.raises(ValueError, match="use teacher_table=off"):
        tabled(live, [])
    with pytest.raises(ValueError, match="float32 or float16"):
        tabled(live, source(), dtype=torch.bfloat16)


def test_logits_that_half_precision_cannot_hold_are_refused() -> None:
    file: RowFile = open_rows(None, "", 2, 3, torch.float16)
    with pytest.raises(ValueError, match="keep them in float32"):
        file.write(torch.tensor([0]), torch.full((1, 3), 1e5))


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="may grow to"):
        open_rows(tmp_path / "a", "key", 10**13, 100, torch.float32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_flipped_bit_of_a_row_is_noticed(dtype: torch.dtype) -> None:
    file = open_rows(None, "", 1, 3, dtype)
    file.write(torch.tensor([0]), torch.tensor([[1.5, -2.0, 0.0]]))
    numbers = file.rows.view(torch.int32 if dtype == torch.float32 else torch.int16)
    bits = 8 * dtype.itemsize
    for column in range(3):
        for bit in range(bits):
            flip = (1 << bit) - (1 << bits if bit == bits - 1 else 0)
            numbers[0, column] ^= flip
            assert file.missing(torch.tensor([0])).tolist() == [True], (column, bit)
            numbers[0, column] ^= flip
    assert file.missing(torch.tensor([0])).tolist() == [False]


def test_a_row_whose_checksum_is_zero_counts_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zlib.crc32", lambda row: 0)
    file = open_rows(None, "", 2, 3, torch.float32)
    file.write(torch.tensor([0]), torch.ones(1, 3))
    assert file.missing(torch.arange(2)).tolist() == [False, True]


def test_a_file_of_the_release_with_weak_checksums_is_built_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    open_rows(path, "key", 4, 3, torch.float32).write(torch.tensor([1]), torch.ones(1, 3))
    path.write_bytes(path.read_bytes().replace(b'"fractionate rows": 2', b'"fractionate rows": 1', 1))
    with pytest.warns(UserWarning, match="written by another release .*format 1, now 2.* built again"):
        file = open_rows(path, "key", 4, 3, torch.float32)
    assert bool(file.missing(torch.arange(4)).all())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no way to reserve")
def test_a_disk_that_fills_up_meanwhile_is_said_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the process dies of SIGBUS while it writes to the mapped file."""
    file = open_rows(tmp_path / "a", "key", 100_000, 10, torch.float32)
    file.write(torch.tensor([5]), torch.ones(1, 10))

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"cannot grow .no space left.*teacher_table=off"):
        file.write(torch.tensor([50_000]), torch.ones(1, 10))
    file.write(torch.tensor([6]), torch.ones(1, 10))  # its block is there
    assert file.missing(torch.tensor([5, 6, 50_000])).tolist() == [False, False, True]
    monkeypatch.undo()
    file.write(torch.tensor([50_000]), torch.ones(1, 10))
    assert not bool(file.missing(torch.tensor([50_000])).any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_training_from_a_table_is_training_from_the_teacher(dtype: torch.dtype, tmp_path: Path) -> None:
    from dataclasses import replace

    run = tiny()
    run = replace(run, teacher=replace(run.teacher, checkpoint=teacher_file(tmp_path)))
    losses = []
    for kept in (False, True):
        training = prepare(run)
        if kept:
            training.teacher = tabled(training.teacher, training.train, folder=tmp_path / "tables", dtype=dtype)
        losses.append([record.train_loss for record in fit(training)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4 if dtype == torch.float32 else 1e-2)


@pytest.mark.slow
def test_kept_logits_of_photographs_are_the_live_ones(real_test_images: Labelled, tmp_path: Path) -> None:
    """A part of CIFAR-100, as its recipe shows it, and a teacher as the trainer uses it: folded, channels last."""
    some = few(real_test_images, 1)
    scale = NORMALIZATION["cifar100"]
    photographs = SmallImages(some.images, some.target, 100, scale, batch_size=50, shift=4, flip=True)
    net = trained(CIFAR["resnet8x4"](100))
    short = folded(net, photographs.form(torch.arange(4), 0))
    for _ in range(2):  # the second table reads the file of the first
        same_as_live(TeacherTable(short, photographs, tmp_path, known_as=net), photographs, epochs=2)


@pytest.mark.parametrize("mode", ["lazy", "full"])
@pytest.mark.parametrize("place", ["file", "memory"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_config_chooses_how_the_table_is_kept(
    mode: str,
    place: str,
    dtype: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FRACTIONATE_CACHE", str(tmp_path / "cache"))
    run = tiny(teacher=Network("convnet_8_16", teacher_file(tmp_path)))
    settings = [f"teacher_table={mode}", f"teacher_table_place={place}", f"teacher_table_dtype={dtype}"]
    training = prepare(override(run, settings))
    table = training.teacher
    assert isinstance(table, TeacherTable)
    assert table.store.rows.dtype == getattr(torch, dtype)
    assert len(list((tmp_path / "cache").rglob("*.logits"))) == (place == "file")
    assert ("in memory" if place == "memory" else f"{dtype}.logits") in capsys.readouterr().err
    shown_ones = table.source.count * table.source.variants // 2  # no mirror images in this run
    assert int(table.store.marks.count_nonzero()) == (shown_ones if mode == "full" else 0)
    same_as_live(table, training.train, epochs=1, tolerance=1e-5 if dtype == "float32" else 1e-2)


@pytest.mark.parametrize("mode", ["lazy", "full"])
@pytest.mark.parametrize(
    ("method", "changes", "why"),
    [
        ("kd+sdd", (), "kd[+]sdd reads the logits of image regions, which a table does not hold"),
        ("kd", ("data.augment=cutout",), "data.augment changes the images by more than shifts and flips"),
        ("kd", ("data.mixup=0.5",), "data.mixup changes the images by more than shifts and flips"),
        ("kd", ("data.cutmix=0.5",), "data.cutmix changes the images by more than shifts and flips"),
    ],
)
def test_a_config_whose_logits_no_table_holds_is_refused(
    mode: str, method: str, changes: tuple[str, ...], why: str
) -> None:
    with pytest.raises(ValueError, match=f"teacher_table={mode}: {why}.*; use teacher_table=off$"):
        override(tiny(method), [f"teacher_table={mode}", *changes])
    override(tiny("ce"), [f"teacher_table={mode}", *changes])  # asks no teacher, as the teacher's own training


def test_no_teacher_is_trained_for_students_that_cannot_use_its_table(tmp_path: Path) -> None:
    from fractionate.cli import main

    words = ["train", "digits", "--method", "kd+sdd", "--student", "convnet_gap_8_16", "--teacher", "convnet_gap_8_16"]
    assert main([*words, "--out", str(tmp_path / "runs"), "teacher_table=lazy"]) == 2
    assert not (tmp_path / "runs").exists()


def test_a_lazy_table_says_its_size_when_it_is_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = source()
    for said in (1, 0):
        table = tabled(LiveTeacher(network()), data, folder=tmp_path)
        assert capsys.readouterr().err.count("teacher table: 11 images x 18 shifts and flips") == said
        table(next(data.batches(1)))


def test_a_compiled_teacher_is_asked_for_by_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda net: compiled.append(net))
    run = tiny(teacher=Network("convnet_8_16", teacher_file(tmp_path)))
    prepare(run)
    assert compiled == []
    assert [prepare(override(run, ["compile_teacher=true"])).teacher.net] == compiled
