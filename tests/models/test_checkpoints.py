"""Checkpoints load from every published layout, completely or not at all."""

import argparse
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fractionate.models import create, load_checkpoint

State = dict[str, Tensor]


def net(classes: int = 10) -> nn.Module:
    return create("convnet_8_16", num_classes=classes)


def prefixed(state: State, prefix: str) -> State:
    return {prefix + k: v for k, v in state.items()}


def whole_distiller(state: State) -> dict[str, Any]:
    teacher = prefixed(net().state_dict(), "module.teacher.")
    return {"model": prefixed(state, "module.student.") | teacher, "epoch": 240, "best_acc": 76.3}


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "bare": lambda s: s,
    "model": lambda s: {"model": s, "epoch": 240},
    "state_dict": lambda s: {"state_dict": s},
    "module.": lambda s: prefixed(s, "module."),
    "student.": lambda s: {"model": prefixed(s, "student.")},
    "module.student. beside module.teacher.": whole_distiller,
    "before batch norm counted": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
    "under keys that nobody knows": lambda s: {"state": {"agent": {"best": s, "score": 3}}, "args": {"lr": 0.1}},
    "torch.compile": lambda s: prefixed(s, "_orig_mod."),
    "torch.compile of one layer": lambda s: {k.replace("blocks.0.", "blocks.0._orig_mod."): v for k, v in s.items()},
    "compile in DataParallel": lambda s: prefixed(s, "module._orig_mod."),
    "DataParallel in compile": lambda s: prefixed(s, "_orig_mod.module."),
    "DataParallel twice": lambda s: prefixed(s, "module.module."),
    "model in DataParallel": lambda s: prefixed(s, "module.model."),
    "DataParallel in a student": lambda s: {"model": prefixed(s, "student.module.")},
    "FSDP": lambda s: prefixed(s, "_fsdp_wrapped_module."),
    "a trainer's net": lambda s: {"state_dict": prefixed(s, "net."), "epoch": 1},
    "a trainer's net beside its criterion and metrics": lambda s: {
        "state_dict": prefixed(s, "net.") | {"criterion.weight": torch.ones(10), "val_acc.total": torch.ones(1)}
    },
    "a name of one's own before every key": lambda s: prefixed(s, "my_network."),
    "a backbone that is all of it": lambda s: prefixed(s, "backbone."),
    "AveragedModel": lambda s: prefixed(s, "module.") | {"n_averaged": torch.tensor(7)},
    "an average beside": lambda s: {
        "model": s,
        "model_ema": prefixed(zeros(s), "module.") | {"n_averaged": torch.tensor(7)},
    },
    "an average alone": lambda s: {"model": None, "ema": s},
    "an average among the keys": lambda s: prefixed(s, "model.") | prefixed(zeros(s), "ema_model."),
    "model_state_dict": lambda s: {"epoch": 1, "model_state_dict": s, "optimizer_state_dict": adam()},
    "nested wrappers": lambda s: {"state_dict": {"model": prefixed(s, "module.")}, "epoch": 1},
    "student beside teacher": lambda s: {"teacher": zeros(s), "student": s},
    "weights": lambda s: {"weights": s},
    "params": lambda s: {"params_ema": zeros(s), "params": s},
    "a key of one's own": lambda s: {"my_best": s, "epoch": 3, "optimizer": adam()},
    "counters of a profiler": lambda s: s | {"total_ops": torch.ones(1), "blocks.0.total_params": torch.ones(1)},
    "a script's options beside": lambda s: {"model": s, "args": argparse.Namespace(lr=0.1, layers=[1, 2])},
}


def zeros(state: State) -> State:
    return {k: torch.zeros_like(v) for k, v in state.items()}


def adam() -> dict[str, Any]:
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_restores_the_outputs(layout: str, tmp_path: Path) -> None:
    source, target = net().eval(), net().eval()
    torch.save(LAYOUTS[layout](source.state_dict()), tmp_path / "a.pth")
    load_checkpoint(target, tmp_path / "a.pth")
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(target(x), source(x))


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
@pytest.mark.parametrize("layout", ["bare", "module.", "torch.compile"])
def test_a_wrapped_network_takes_what_the_bare_one_takes(wrap: Callable[..., Any], layout: str, tmp_path: Path) -> None:
    source, target = net(), net()
    torch.save(LAYOUTS[layout](source.state_dict()), tmp_path / "a.pth")
    load_checkpoint(wrap(target), tmp_path / "a.pth")
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def test_a_prefix_that_is_the_network_s_own_stays(tmp_path: Path) -> None:
    source, target = (nn.ModuleDict({"model": nn.Linear(2, 2), "module": nn.Linear(2, 2)}) for _ in range(2))
    torch.save(source.state_dict(), tmp_path / "a.pth")
    load_checkpoint(target, tmp_path / "a.pth")
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def test_a_network_that_is_there_twice_is_not_guessed_at(tmp_path: Path) -> None:
    state = net().state_dict()
    torch.save(prefixed(state, "a.") | prefixed(state, "b."), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"unexpected: a\.blocks"):
        load_checkpoint(net(), tmp_path / "a.pth")


def test_layers_of_a_larger_network_are_not_taken_for_a_small_one(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"2 missing: weight, bias; 4 unexpected: 0\.weight"):
        load_checkpoint(nn.Linear(2, 2), tmp_path / "a.pth")


def test_a_misfit_behind_prefixes_is_told_in_the_network_s_own_words(tmp_path: Path) -> None:
    torch.save({"state_dict": prefixed(net(100).state_dict(), "module.model._orig_mod.")}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="it has 100 classes, the network 10"):
        load_checkpoint(net(), tmp_path / "a.pth")
    torch.save({"state_dict": prefixed(without_first(net().state_dict()), "student.")}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"1 missing: blocks\.0\.0\.weight$"):
        load_checkpoint(net(), tmp_path / "a.pth")


def test_a_mapping_that_holds_itself_ends(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        load_checkpoint(net(), tmp_path / "a.pth")


def test_safetensors_restore_the_outputs(tmp_path: Path) -> None:
    source, target = net().eval(), net().eval()
    save_file(source.state_dict(), tmp_path / "a.safetensors")
    load_checkpoint(target, str(tmp_path / "a.safetensors"))
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(target(x), source(x))


def without_first(state: State) -> State:
    return dict(list(state.items())[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_first, "1 missing: blocks.0.0.weight"),
        (lambda s: s | {"extra.weight": torch.zeros(1)}, "1 unexpected: extra.weight"),
        (lambda s: net(100).state_dict(), "it has 100 classes, the network 10; create it with num_classes=100"),
        (
            lambda s: s | {"blocks.0.0.weight": torch.zeros(9, 1, 3, 3)},
            r"blocks.0.0.weight is \[9, 1, 3, 3\] in the file, \[8, 1, 3, 3\] in the network",
        ),
        (
            lambda s: create("convnet_16_32_64", num_classes=10).state_dict(),
            r"5 unexpected: blocks.2.0.weight|unexpected: .*and 1 more",
        ),
    ],
)
def test_a_misfit_is_described_and_changes_nothing(
    change: Callable[[State], State], message: str, tmp_path: Path
) -> None:
    target = net()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    torch.save(change(target.state_dict()), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        load_checkpoint(target, tmp_path / "a.pth")
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_a_file_with_other_objects_is_not_opened(tmp_path: Path) -> None:
    torch.save({"model": net().state_dict(), "when": datetime.timedelta(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="can run code when they are opened"):
        load_checkpoint(net(), tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_broken_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=name):
        load_checkpoint(net(), tmp_path / name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda whole, old: whole[: len(whole) // 2], "cut off or damaged: an archive without its end; copy"),
        (lambda whole, old: whole[:4], "cut off or damaged: an archive without its end; copy"),
        (lambda whole, old: old[: len(old) // 2], "is cut off: it ends in the middle; copy"),
        (lambda whole, old: bytes(9999), "no file of torch.save or safetensors, or its start is damaged"),
        (lambda whole, old: whole[:1], "no file of torch.save or safetensors, or its start is damaged"),
    ],
)
def test_a_damaged_file_is_not_taken_for_one_that_runs_code(
    content: Callable[[bytes, bytes], bytes], words: str, tmp_path: Path
) -> None:
    net, files = nn.Linear(99, 9), []
    for zipped in (True, False):
        torch.save(net.state_dict(), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        files.append((tmp_path / "a.pth").read_bytes())
    (tmp_path / "a.pth").write_bytes(content(*files))
    with pytest.raises(ValueError, match=words):
        load_checkpoint(net, tmp_path / "a.pth")


def test_a_file_without_tensors_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"holds no state dict.*found \['epoch'\]"):
        load_checkpoint(net(), tmp_path / "a.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(net(), tmp_path / "none.pth")


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_2", "ShuffleV1"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_published_teacher_file_loads_unchanged(name: str, zipped: bool, tmp_path: Path) -> None:
    teacher, again = create(name, num_classes=100).eval(), create(name, num_classes=100).eval()
    optimizer = torch.optim.SGD(teacher.parameters(), lr=0.1).state_dict()
    content = {"epoch": 240, "model": teacher.state_dict(), "accuracy": torch.tensor(72.1), "optimizer": optimizer}
    path = tmp_path / "ckpt_epoch_240.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)  # files of 2019 are no zip archives
    load_checkpoint(again, path)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in teacher.state_dict().items())


NO_WEIGHTS = {
    "is empty": b"",
    "pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n",
    "server's answer": b"<!DOCTYPE html><html>",
    "another kind": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("ending", [".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("what", NO_WEIGHTS)
def test_a_file_that_came_in_place_of_weights_is_called_what_it_is(what: str, ending: str, tmp_path: Path) -> None:
    (tmp_path / f"a{ending}").write_bytes(NO_WEIGHTS[what])
    with pytest.raises(ValueError, match=what):
        load_checkpoint(net(), tmp_path / f"a{ending}")


def test_safetensors_are_read_under_any_name(tmp_path: Path) -> None:
    one, two = net(), net()
    save_file(one.state_dict(), tmp_path / "a.pt")
    load_checkpoint(two, tmp_path / "a.pt")
    assert torch.equal(one.state_dict()["fc.weight"], two.state_dict()["fc.weight"])


@pytest.mark.parametrize(
    "both",
    [
        lambda s, t: {"student": s, "teacher": t},
        lambda s, t: {"model": {"student": s, "teacher": t}, "epoch": 3},
        lambda s, t: {"state_dict": prefixed(s, "student.") | prefixed(t, "teacher.")},
        lambda s, t: prefixed(s, "module.student.") | prefixed(t, "module.teacher."),
    ],
    ids=["keys", "nested", "prefixes", "in DataParallel"],
)
def test_of_a_distillation_s_file_each_role_takes_its_own_network(
    both: Callable[[State, State], Any], tmp_path: Path
) -> None:
    student, teacher = net().state_dict(), net().state_dict()
    torch.save(both(student, teacher), tmp_path / "both.pth")
    for role, expected in (("student", student), ("teacher", teacher)):
        found = net()
        load_checkpoint(found, tmp_path / "both.pth", role=role)  # type: ignore[arg-type]
        assert all(torch.equal(v, expected[k]) for k, v in found.state_dict().items())


def test_a_teacher_s_weights_alone_need_no_name_of_its_role(tmp_path: Path) -> None:
    weights = net().state_dict()
    torch.save({"model": weights}, tmp_path / "a.pth")
    found = net()
    load_checkpoint(found, tmp_path / "a.pth", role="teacher")
    assert all(torch.equal(v, weights[k]) for k, v in found.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_were_cast_with_their_counters_load(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.save({k: v.to(dtype) for k, v in net().state_dict().items()}, tmp_path / "cast.pth")
    load_checkpoint(net(), tmp_path / "cast.pth")
