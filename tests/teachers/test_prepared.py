"""Every network sees pixels as it was trained to, whatever the source did to them: teachers and students."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from fractionate.config.data import Data
from fractionate.config.run import Network, Run
from fractionate.data import digits, normalization_of
from fractionate.export.folder import export_run
from fractionate.models import Preprocessing, load_exported
from fractionate.models.preprocessing import Shown, shown, shown_of
from fractionate.probe.measure import evaluate_run
from fractionate.runs import save_weights
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.tasks import evaluate
from fractionate.teachers import TeacherTable
from fractionate.train.build import prepare
from fractionate.train.networks import build, build_for
from fractionate.train.pixels import made_for, settled
from fractionate.train.sources import sources
from tests.train.runs import tiny

WANTED = Preprocessing((12, 12), mean=(0.25,), std=(0.125,), interpolation="bilinear")
NAME = "tests.teachers.test_prepared:with_preprocessing"
SILENT = Console(file=StringIO(), width=200)


def with_preprocessing(num_classes: int) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.append(nn.Linear(4, num_classes))
    net.preprocessing = WANTED
    return net


def by_hand(net: nn.Module, images: Tensor, source: Any) -> Tensor:
    """The slow twin: back to pixels of 0..1, then as the network wants them, then the bare network."""
    have = normalization_of(source)
    assert have is not None
    mean, std = (torch.tensor(x)[:, None, None] for x in (have.mean, have.std))
    with torch.no_grad():
        return net.eval()(WANTED(images * std + mean))


def bare(weights: Path) -> nn.Module:
    from fractionate.models import load_checkpoint

    net = with_preprocessing(10)
    load_checkpoint(net, weights)
    return net.eval()


def test_a_teacher_from_elsewhere_sees_the_batch_in_its_own_size_and_normalisation() -> None:
    training = prepare(tiny("kd", teacher=Network(NAME)))
    batch = next(iter(training.train.batches(1)))
    assert training.teacher is not None
    logits, _ = training.teacher(batch)
    torch.manual_seed(training.run.seed + 1)  # as the trainer builds it
    net = with_preprocessing(10).eval()
    torch.testing.assert_close(logits, by_hand(net, batch.images, training.train), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits, net(batch.images), atol=1e-3)


@pytest.fixture(scope="module")
def student_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "student"
    run_in_folder(tiny("ce", student=Network(NAME), epochs=1, ema=0.5), folder)
    return folder


def test_a_student_sees_its_own_pixels_and_its_weights_keep_their_names(student_run: Path) -> None:
    net, facts = bare(RunFolder(student_run).student), RunFolder(student_run).summary()
    _, test = sources(tiny("ce").data, 0, torch.device("cpu"))
    batch = next(iter(test.batches(1)))
    logits = by_hand(net, batch.images, test)
    right = (logits.argmax(1) == batch.target).double().mean()
    assert facts["last_top1"] == pytest.approx(100 * float(right))
    assert facts["preprocessing"]["size"] == [12, 12]
    assert set(torch.load(student_run / "last.ckpt", weights_only=False)["average"]) == set(net.state_dict())


def test_a_run_of_such_a_student_is_measured_again_as_it_was(student_run: Path) -> None:
    assert evaluate_run(student_run, SILENT).metrics.top1 == pytest.approx(
        RunFolder(student_run).summary()["last_top1"]
    )


@pytest.mark.usefixtures("unchecked")
def test_what_leaves_says_which_pixels_it_wants(student_run: Path, tmp_path: Path) -> None:
    export_run(student_run, tmp_path / "out", ("safetensors", "torch-export"), console=SILENT)
    exported = load_exported(tmp_path / "out", own_code=True)
    assert exported.description.preprocessing == WANTED
    _, test = sources(tiny("ce").data, 0, torch.device("cpu"))
    batch, raw = next(iter(test.batches(1))), digits("test").images
    expected = by_hand(bare(RunFolder(student_run).student), batch.images, test)
    torch.testing.assert_close(exported(raw[: len(expected)]), expected, rtol=1e-4, atol=1e-4)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "12 x 12 pixels" in card
    assert "mean = (0.25)" in card
    assert "resized to that" in card
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    torch.testing.assert_close(program(exported.normalize(raw[:5])), expected[:5], rtol=1e-4, atol=1e-4)


def test_an_exported_network_teaches_with_the_pixels_that_its_folder_names(student_run: Path, tmp_path: Path) -> None:
    export_run(student_run, tmp_path / "out", console=SILENT)
    training = prepare(tiny("kd", teacher=Network(NAME, checkpoint=str(tmp_path / "out" / "model.safetensors"))))
    assert shown_of(training.teacher.net).wanted == WANTED  # type: ignore[union-attr]


def test_a_teacher_out_of_a_run_sees_pixels_as_it_did_there(student_run: Path, tmp_path: Path) -> None:
    weights = str(RunFolder(student_run).student)
    training = prepare(tiny("kd", teacher=Network(NAME, weights)))
    assert training.teacher_test is not None
    assert training.teacher_test.score == pytest.approx(RunFolder(student_run).summary()["last_top1"])
    save_weights(with_preprocessing(10), tmp_path / "student.safetensors")
    (tmp_path / "config.yaml").write_text("", encoding="utf-8")
    facts = RunFolder(student_run).summary()
    del facts["preprocessing"]  # as releases wrote it whose students saw pixels as the data have them
    (tmp_path / "summary.json").write_text(json.dumps(facts), encoding="utf-8")
    before = prepare(tiny("kd", teacher=Network(NAME, str(tmp_path / "student.safetensors"))))
    assert shown_of(before.teacher.net) is None  # type: ignore[union-attr]
    for name in ("config.yaml", "summary.json"):
        (tmp_path / name).unlink()
    elsewhere = prepare(tiny("kd", teacher=Network(NAME, str(tmp_path / "student.safetensors"))))
    assert shown_of(elsewhere.teacher.net).wanted == WANTED  # type: ignore[union-attr]


def test_a_run_of_an_earlier_release_does_not_go_on_with_other_pixels(tmp_path: Path) -> None:
    from fractionate.runs.checkpoint import read_checkpoint, write_state
    from fractionate.train.loop import Loop

    run = tiny("ce", student=Network(NAME), epochs=1)
    run_in_folder(run, tmp_path)
    (tmp_path / "summary.json").unlink()
    notes = read_checkpoint(tmp_path / "last.ckpt")["notes"]
    del notes["made of"]["pixels"]
    write_state(Loop(prepare(run)), tmp_path / "last.ckpt", notes=notes)
    with pytest.raises(ValueError, match=r"saw pixels in another way .* student\.preprocessing"):
        run_in_folder(run, tmp_path, resume=True)


def test_a_student_that_takes_pixels_as_they_come_has_nothing_before_it() -> None:
    training = prepare(tiny("ce"))
    assert shown_of(training.student) is None
    stated = prepare(tiny("ce", student=Network(NAME, preprocessing="data")))
    assert shown_of(stated.student) is None


def test_images_that_are_as_the_network_wants_them_pass_untouched() -> None:
    x = torch.randn(2, 1, 4, 4)
    how = Shown(Preprocessing((4, 4), (0.3,), (0.2,)), (0.3,), (0.2,))
    assert how.pixels(x) is x


def test_a_network_of_torchscript_is_shown_its_pixels_too() -> None:
    with pytest.warns(FutureWarning) if torch.__version__ >= "2.12" else _nothing():
        script = torch.jit.script(nn.Flatten())
    net = shown(script, Shown(Preprocessing(None, (0.5,), (0.25,)), (0.0,), (1.0,)))
    assert net(torch.full((1, 1, 1, 1), 0.75)).item() == 1.0


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_a_table_of_logits_is_known_by_the_preprocessing_too() -> None:
    train, _ = sources(tiny("ce").data, 0, torch.device("cpu"))
    nets = [with_preprocessing(10) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    from fractionate.teachers.table import fingerprint

    assert fingerprint(nets[0], train) == fingerprint(nets[1], train)  # type: ignore[arg-type]
    shown(nets[1], Shown(WANTED, (0.0,), (1.0,)))
    assert fingerprint(nets[0], train) != fingerprint(nets[1], train)  # type: ignore[arg-type]
    assert TeacherTable(nets[1], train) is not None  # type: ignore[arg-type]


# --- a library's network filled from a file of which nobody says how its pixels were prepared ---

COLOURED = 60  # images


def coloured_folder(root: Path) -> Path:
    """Two classes of flat pictures, dark and bright."""
    from PIL import Image

    draw = torch.Generator().manual_seed(0)
    for part, count in (("train", 2), ("test", COLOURED // 2)):
        for k, name in enumerate(("bright", "dark")):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                level = int(torch.randint(0, 40, (), generator=draw)) + (110 if k else 150)
                Image.new("RGB", (8, 8), (level,) * 3).save(root / part / name / f"{i}.png")
    return root


def run_on(root: Path, network: Network, **changes: Any) -> Run:
    data = Data("folder", root=str(root), size=8, batch_size=4)
    return tiny("kd", student=Network("resnet8"), teacher=network, data=data, **changes)


@pytest.mark.parametrize("way", ["library", "data"])
def test_a_file_from_elsewhere_is_tried_both_ways_and_that_is_said(way: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    root, name = coloured_folder(tmp_path / "data"), "timm:test_resnet"
    train, test = sources(run_on(root, Network(name)).data, 0, torch.device("cpu"))
    nets = {}
    for how in ("library", "data"):
        torch.manual_seed(0)
        net = timm.create_model("test_resnet", num_classes=2)
        nets[how] = made_for(net, Network(name, preprocessing=how), test, test).eval()  # type: ignore[arg-type]
    _solve(nets.pop(way), *nets.values(), next(iter(test.batches(1))), tmp_path / "theirs.pt")
    config = Network(name, checkpoint=str(tmp_path / "theirs.pt"))
    with pytest.warns(UserWarning, match=rf"does not say how .*preprocessing={way} says so"):
        assert settled(build(config, 2), config, train, test, "teacher").preprocessing == way
    made = build_for(replace(config, preprocessing=way), test, test)  # type: ignore[arg-type]
    assert evaluate(made, test).top1 >= 75


@torch.no_grad()
def _solve(right: nn.Module, wrong: nn.Module, batch: Any, file: Path) -> None:
    """A last layer that knows images prepared in one way and is misled by the other, and the file with it."""
    rows = []
    for net in (right, wrong):
        handle = net.get_classifier().register_forward_pre_hook(lambda _, given: rows.append(given[0].double()))
        net(batch.images)
        handle.remove()
    features = torch.cat([torch.cat(rows), torch.ones(2 * len(batch), 1)], 1)
    signs = nn.functional.one_hot(batch.target, 2).double() * 2 - 1
    solved = torch.linalg.lstsq(features, torch.cat([signs, -signs]), driver="gelsd").solution.float()
    right.get_classifier().weight.copy_(solved[:-1].T)
    right.get_classifier().bias.copy_(solved[-1])
    torch.save(right.state_dict(), file)


def test_where_trying_does_not_tell_the_user_is_asked(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    root = coloured_folder(tmp_path / "data")
    net = timm.create_model("test_resnet", num_classes=2)
    nn.init.zeros_(net.get_classifier().weight)
    save_weights(net, tmp_path / "theirs.safetensors")
    run = run_on(root, Network("timm:test_resnet", checkpoint=str(tmp_path / "theirs.safetensors")))
    with pytest.raises(ValueError, match=r"trying both does not tell .*teacher\.preprocessing=library"):
        prepare(run)
    teacher = replace(run.teacher, preprocessing="data")  # type: ignore[type-var]
    assert shown_of(prepare(replace(run, teacher=teacher)).teacher.net) is None  # type: ignore[union-attr]


def test_a_network_without_a_library_cannot_be_shown_the_library_s_pixels() -> None:
    with pytest.raises(ValueError, match="no library says how resnet8 wants its pixels"):
        prepare(tiny("ce", student=Network("resnet8", preprocessing="library")))
