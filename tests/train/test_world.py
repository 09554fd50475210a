"""What processes tell each other, and what is refused before they begin."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from fractionate.config.data import Data
from fractionate.config.optimizers import Optimizer
from fractionate.config.run import Monitors, Network, Parallel
from fractionate.runs.runner import run_in_folder
from fractionate.train.build import prepare
from fractionate.train.checks import check_shares
from fractionate.world import Wishes, World, agree, current, joined
from tests.train.runs import teacher_file, tiny


def meet(store: torch.distributed.HashStore, size: int) -> list[str]:
    """The names that ``size`` processes, here threads, agree on."""
    found: list[str] = [""] * size

    def process(rank: int) -> None:
        found[rank] = agree(store, rank, size, timedelta(seconds=20))

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_processes_agree_on_a_name_that_no_earlier_attempt_had() -> None:
    store = torch.distributed.HashStore()
    attempts = [meet(store, 3) for _ in range(4)]
    assert all(len(set(names)) == 1 for names in attempts)
    assert len({names[0] for names in attempts}) == 4


def test_who_does_not_come_is_not_waited_for_for_ever() -> None:
    store = torch.distributed.HashStore()
    store.set("name 1", "of an earlier attempt")
    with pytest.raises(RuntimeError, match="not all 2 processes have come within"):
        agree(store, 0, 2, timedelta(seconds=0.1))


def test_alone_everything_happens_at_once() -> None:
    world = World()
    assert Wishes(world).exchange(3) == 3
    assert world.everyones("a") == ["a"]
    x = torch.ones(2)
    assert world.sum_(x) is x
    assert torch.equal(world.rows(x)[0], x)
    with joined() as same:
        assert same == current() == world


def test_an_error_of_the_main_process_keeps_its_type() -> None:
    with pytest.raises(ZeroDivisionError):
        World().on_main(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("option", "changes"),
    [
        ("optimizer.clip_streams", {"optimizer": Optimizer(clip_streams=1.0)}),
        ("optimizer.clip", {"optimizer": Optimizer(clip=1.0)}),
        ("monitors", {"monitors": Monitors(gsnr_window=5)}),
        ("skip_nonfinite", {"skip_nonfinite": 2}),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_exchanging_updates_is_refused_with_what_reads_gradients(option: str, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=rf"sync=update exchanges no gradients, but {option} reads"):
        tiny("dkd+dot", parallel=Parallel(sync="update"), **changes)


def test_synchronised_batch_norms_are_refused_on_a_cpu() -> None:
    with pytest.raises(ValueError, match="works on GPUs only: torch has no SyncBatchNorm for CPUs"):
        prepare(tiny("ce", parallel=Parallel(sync_batchnorm=True)))


def test_a_method_that_compares_rows_takes_no_parts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dist compares the rows of a batch with each other"):
        run_in_folder(tiny("dist", accumulate=2), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_step_needs_an_image_for_every_process() -> None:
    training = prepare(tiny("ce", data=Data(labels_per_class=2, batch_size=3)))
    check_shares(training, 3)
    with pytest.raises(
        ValueError, match=r"batch_size is 3 images per step, of all processes together, and there are 4"
    ):
        check_shares(training, 4)


def test_synchronised_batch_norms_need_images_in_every_process() -> None:
    training = prepare(tiny("ce", data=Data(labels_per_class=2, batch_size=9)))  # 20 images: the last batch holds 2
    watched = replace(training, run=replace(training.run, parallel=Parallel(sync_batchnorm=True)))
    with pytest.raises(ValueError, match="last batch of every epoch holds 2 images for 3 processes"):
        check_shares(watched, 3)
    check_shares(watched, 2)


def test_parts_of_a_step_take_the_same_step_without_batch_statistics(tmp_path: Path) -> None:
    taught = Network("convnet_8_16", checkpoint=teacher_file(tmp_path))
    plain = tiny("dkd+dot", student=Network("tests.train.test_world:linear"), teacher=taught)
    for count in (1, 2):
        run_in_folder(replace(plain, accumulate=count), tmp_path / str(count))
    one, two = (torch_load(tmp_path / str(count)) for count in (1, 2))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)


def linear(num_classes: int) -> torch.nn.Module:
    """A network without batch statistics."""
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))


def torch_load(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "student.safetensors")
