"""The loop: the same numbers for the same seed, whether or not it was watched or interrupted."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fractionate.config.data import Data
from fractionate.config.optimizers import Optimizer
from fractionate.config.run import Monitors, Network, Run
from fractionate.data import Normalization, SmallImages
from fractionate.runs.checkpoint import restore, save_checkpoint
from fractionate.tasks import Diverged
from fractionate.train.build import Training, prepare
from fractionate.train.device import place
from fractionate.train.loop import Loop, fit
from tests.train.runs import teacher_file, tiny

METHODS = ("ce", "kd", "dkd", "dkd+dot", "dkd+deepkd", "dkd+deepkd(rule=published-code)", "ctkd")


@pytest.fixture
def taught(tmp_path: Path) -> Network:
    return Network("convnet_8_16", checkpoint=teacher_file(tmp_path))


def trained(run: Run) -> Training:
    training = prepare(run)
    for _ in fit(training):
        pass
    return training


def weights(training: Training) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in training.student.parameters()])


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_weights_to_the_last_bit(method: str, taught: Network) -> None:
    run = tiny(method, teacher=taught)
    first = weights(trained(run))
    torch.rand(7)  # whatever else the process draws
    assert torch.equal(weights(trained(run)), first)


def test_seeds_differ_in_weights_and_batches(taught: Network) -> None:
    one, two = (prepare(tiny(teacher=taught, seed=seed)) for seed in (0, 1))
    assert not torch.equal(weights(one), weights(two))
    first, second = (next(iter(t.train.batches(1))) for t in (one, two))
    assert not torch.equal(first.index, second.index)


def test_methods_start_from_the_same_student(taught: Network) -> None:
    started = [weights(prepare(tiny(method, teacher=taught))) for method in ("ce", "kd", "dkd+deepkd")]
    assert torch.equal(started[0], started[1])
    assert torch.equal(started[0], started[2])


@pytest.mark.parametrize("method", METHODS)
def test_going_on_from_a_checkpoint_equals_never_having_stopped(method: str, taught: Network, tmp_path: Path) -> None:
    run = tiny(method, teacher=taught)
    whole = [record.columns() for record in fit(prepare(run))]
    first = Loop(prepare(run))
    next(first.records())
    save_checkpoint(first, tmp_path / "last.ckpt")
    second = Loop(prepare(run))
    restore(second, tmp_path / "last.ckpt")
    rest = [record.columns() for record in second.records()]
    timing = {"seconds", "images_per_s"}
    strip = [{k: v for k, v in row.items() if k not in timing} for row in whole[1:]]
    assert [{k: v for k, v in row.items() if k not in timing} for row in rest] == strip
    assert torch.equal(weights(second.training), weights(trained(run)))


def test_dropout_goes_on_where_it_stopped(taught: Network, tmp_path: Path) -> None:
    run = tiny(teacher=taught)

    def student() -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))

    def start() -> Loop:
        return Loop(prepare(run, student=student()))

    whole = start()
    list(whole.records())
    first = start()
    next(first.records())
    save_checkpoint(first, tmp_path / "last.ckpt")
    torch.rand(11)
    second = start()
    restore(second, tmp_path / "last.ckpt")
    list(second.records())
    assert torch.equal(weights(second.training), weights(whole.training))


def test_a_changed_config_rules_over_the_checkpoint(taught: Network, tmp_path: Path) -> None:
    run = tiny("dkd+dot", teacher=taught)
    first = Loop(prepare(run))
    next(first.records())
    save_checkpoint(first, tmp_path / "last.ckpt")
    other = replace(run, optimizer=Optimizer(lr=0.5, momentum=0.5, weight_decay=0.0))
    second = Loop(prepare(other))
    restore(second, tmp_path / "last.ckpt")
    record = next(second.records())
    fresh = [r.lr for r in fit(prepare(replace(other, method=tiny("ce").method)))]
    assert record.lr == fresh[1]
    assert second.training.optimizer.param_groups[0]["weight_decay"] == 0.0
    assert dict(second.training.optimizer.momenta) == pytest.approx({"task": 0.425, "distillation": 0.575})


@pytest.mark.parametrize("method", ["kd", "dkd", "dkd+dot", "dkd+deepkd", "dkd+deepkd(rule=published-code)"])
def test_watching_changes_no_update_beyond_rounding(method: str, taught: Network) -> None:
    run = tiny(method, teacher=taught)
    watched = replace(run, monitors=Monitors(gsnr_window=2, cosines=True, norms=True))
    expected = weights(trained(run))
    assert torch.allclose(weights(trained(watched)), expected, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(weights(prepare(run)), expected, rtol=1e-3, atol=1e-5)


def test_a_watched_run_has_a_column_per_stream_and_per_pair(taught: Network) -> None:
    watch = Monitors(gsnr_window=2, cosines=True, norms=True)
    streams = ("task", "target", "nontarget")
    for method in ("dkd", "dkd+deepkd"):
        columns = next(fit(prepare(tiny(method, teacher=taught, monitors=watch)))).columns()
        assert {f"gsnr/{s}" for s in streams} | {f"norm/{s}" for s in streams} <= set(columns)
        assert {c for c in columns if c.startswith("cosine/")} == {
            "cosine/task|target",
            "cosine/task|nontarget",
            "cosine/target|nontarget",
        }


def test_only_the_seeds_asked_for_are_watched(taught: Network) -> None:
    watch = Monitors(gsnr_window=2, seeds=(1,))
    assert prepare(tiny(teacher=taught, monitors=watch)).watch is None
    assert prepare(tiny(teacher=taught, monitors=watch, seed=1)).watch is not None


def test_a_record_says_what_the_epoch_did(taught: Network) -> None:
    records = list(fit(prepare(tiny("dkd", teacher=taught))))
    assert [r.epoch for r in records] == [1, 2, 3]
    assert [r.lr for r in records] == pytest.approx([0.01 * (1 + math.cos(math.pi * e / 3)) / 2 for e in (0, 1, 2)])
    columns = records[-1].columns()
    assert [c for c in columns if c.startswith("component/")] == [
        "component/task",
        "component/target",
        "component/nontarget",
    ]
    assert all(columns[name] > 0 for name in ("images_per_s", "seconds", "train_loss", "test_loss"))
    assert 0 <= columns["ece"] <= 1
    assert 0 <= columns["agreement"] <= 100


def test_the_loss_of_an_epoch_is_the_mean_over_its_images_also_of_a_smaller_last_batch() -> None:
    training = prepare(tiny("ce", epochs=1, data=Data(batch_size=50)))
    sizes = [len(batch) for batch in training.train.batches(1)]
    assert sizes[-1] < sizes[0]
    loop = Loop(training)
    record = next(iter(loop.records()))
    seen: list[tuple[float, int]] = []
    again = Loop(prepare(tiny("ce", epochs=1, data=Data(batch_size=50))))
    add = again.log.add
    again.log.add = lambda step, images, largest=None: (
        seen.append((float(step.loss), images)),
        add(step, images, largest),
    )
    next(iter(again.records()))
    mean = sum(loss * n for loss, n in seen) / sum(sizes)
    assert [n for _, n in seen] == sizes
    assert record.train_loss == pytest.approx(mean, rel=1e-12)
    assert record.train_loss != pytest.approx(sum(loss for loss, _ in seen) / len(seen), rel=1e-6)
    assert record.components["task"] == pytest.approx(record.train_loss, rel=1e-6)


def test_labels_alone_are_compared_with_a_teacher_but_do_not_learn_from_it(taught: Network) -> None:
    run = tiny("ce")
    compared = trained(replace(run, teacher=taught))
    assert compared.teacher is None
    assert compared.teacher_seen is not None
    assert torch.equal(weights(compared), weights(trained(run)))


def test_the_number_of_threads_is_put_back(taught: Network) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in fit(prepare(tiny(teacher=taught, threads=1, epochs=1))):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("method", ["kd", "dkd+deepkd"])
def test_training_that_diverges_says_where(method: str, taught: Network) -> None:
    run = tiny(method, teacher=taught, optimizer=Optimizer(lr=1e30))
    place = r"training diverged in epoch \d, step \d+: component '\w+' of stream '\w+' is (nan|inf); lower optimizer.lr"
    with pytest.raises(Diverged, match=place):
        list(fit(prepare(run)))


def test_a_method_that_needs_two_views_says_so(taught: Network) -> None:
    with pytest.raises(ValueError, match="mlkd: needs a second view"):
        next(fit(prepare(tiny("mlkd", teacher=taught))))


def test_parts_of_your_own_take_the_place_of_the_configs() -> None:
    pixels = torch.randint(0, 256, (12, 3, 5, 5), dtype=torch.uint8)
    normal = Normalization.of(pixels)
    mine = SmallImages(pixels, torch.arange(12) % 4, 4, normal, batch_size=6)
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(75, 4)) for _ in range(2))
    training = prepare(tiny("kd"), student=student, teacher=teacher, train=mine, test=mine)
    assert training.student is student
    assert len(list(fit(training))) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without an accelerator")
def test_a_gpu_that_is_not_there_is_missed() -> None:
    with pytest.raises(ValueError, match="finds no GPU"):
        prepare(tiny("ce", device="cuda"))


def test_a_validation_run_keeps_the_test_images_out() -> None:
    run = tiny("ce", data=Data(evaluate_on="validation"))
    training = prepare(run)
    seen = torch.cat([b.target for b in training.test.batches(1)])
    assert len(seen) + sum(len(b) for b in training.train.batches(1)) == 1201


@pytest.mark.parametrize(("device", "there"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(device: str, there: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    with pytest.raises(ValueError, match=f"'{device}' was asked for, but torch finds {there or 'no'} GPU"):
        place(device)


def test_a_gpu_by_number_is_refused_where_torchrun_gives_every_process_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="use device=cuda"):
        place("cuda:1")
