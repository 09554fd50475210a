"""What leaves the package is the trained network, checked and whole, or nothing."""

from __future__ import annotations

import json
import shutil
import sys
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from fractionate.config.run import Network
from fractionate.data import digits
from fractionate.export import formats
from fractionate.export.folder import export_run
from fractionate.export.formats import FORMATS, compare
from fractionate.models import Description, create, load_exported
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from tests.train.runs import teacher_file, tiny

ONNX = ("onnx", "onnxscript", "onnxruntime")
pytestmark = pytest.mark.usefixtures("unchecked")  # exporters trace the networks, not the shape checks around them


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    teacher = Network("convnet_8_16", checkpoint=teacher_file(folder))
    run_in_folder(tiny("dkd+deepkd", teacher=teacher), folder / "run", command=("fractionate", "train", "digits"))
    return folder / "run"


def console() -> Console:
    return Console(file=StringIO(), width=200)


def trained(run: Path) -> nn.Module:
    from fractionate.models import load_checkpoint

    net = create("convnet_4_8", num_classes=10).eval()
    load_checkpoint(net, RunFolder(run).student)
    return net


def test_the_weights_and_what_the_network_eats_leave_together(run: Path, tmp_path: Path) -> None:
    shown = console()
    export_run(run, tmp_path / "out", console=shown)
    exported = load_exported(tmp_path / "out")
    images = digits("test").images[:9]
    assert torch.equal(exported(images), trained(run)(exported.normalize(images)))
    assert exported.description.classes == tuple("0123456789")
    assert "largest difference 0 over 16 images" in shown.file.getvalue()


def test_the_exported_network_is_as_good_as_the_run_says(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "out", console=console())
    test = digits("test")
    right = (load_exported(tmp_path / "out")(test.images).argmax(1) == test.target).double().mean()
    assert 100 * float(right) == pytest.approx(RunFolder(run).summary()["last_top1"])


def test_a_program_of_torch_needs_no_package_of_ours(run: Path, tmp_path: Path) -> None:
    (written,) = export_run(run, tmp_path / "out", ("torch-export",), console=console())
    net = torch.export.load(tmp_path / "out" / written.file).module()
    x = torch.randn(11, 1, 8, 8)
    assert torch.allclose(net(x), trained(run)(x), atol=1e-6)


def test_onnxruntime_gives_the_same_logits_for_any_batch(run: Path, tmp_path: Path) -> None:
    runtime = [pytest.importorskip(name) for name in ONNX][-1]
    (written,) = export_run(run, tmp_path / "out", ("onnx",), console=console())
    session = runtime.InferenceSession(tmp_path / "out" / written.file, providers=["CPUExecutionProvider"])
    for n in (1, 2, 11):
        x = torch.randn(n, 1, 8, 8)
        (found,) = session.run(["logits"], {"images": x.numpy()})
        assert torch.allclose(torch.from_numpy(found), trained(run)(x), atol=1e-5)
    assert 0 <= written.difference < 1e-5


def test_a_graph_leaves_with_its_constants_folded_and_the_card_names_its_opset(run: Path, tmp_path: Path) -> None:
    library, *_ = [pytest.importorskip(name) for name in ONNX]
    (written,) = export_run(run, tmp_path / "out", ("onnx",), console=console())
    graph = library.load(str(tmp_path / "out" / written.file))
    (opset,) = [one.version for one in graph.opset_import if one.domain in ("", "ai.onnx")]
    assert f"opset {opset}," in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert not {node.op_type for node in graph.graph.node} & {"BatchNormalization", "CastLike", "Shape"}


@pytest.mark.parametrize("name", ["wrn_16_1", "vgg8"])
@pytest.mark.parametrize("format", ["torch-export", "onnx"])
def test_networks_of_every_kind_can_leave(name: str, format: formats.Format, tmp_path: Path) -> None:
    for package in FORMATS[format][1]:
        pytest.importorskip(package)
    description = Description(name, 7, (3, 32, 32), mean=(0.5,) * 3, std=(0.2,) * 3)
    net = create(name, num_classes=7).eval().requires_grad_(False)
    written = FORMATS[format][0](net, description, torch.randn(4, 3, 32, 32), tmp_path)
    assert written.difference < 1e-5
    assert (tmp_path / written.file).is_file()


def test_the_card_says_what_the_run_says(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "out", ("safetensors", "torch-export"), console=console())
    card, facts = (tmp_path / "out" / "README.md").read_text(encoding="utf-8"), RunFolder(run).summary()
    for fact in (
        "# convnet_4_8 on digits, 2 labels per class, trained by dkd+deepkd",
        f"student of convnet_8_16 ({facts['teacher_params']:,} parameters, {facts['teacher_top1']:.2f} % top-1)",
        f"| top-1 on the test images, last epoch | {facts['last_top1']:.2f} % |",
        "one run (1 seed: 0)",
        "arXiv 2203.08679",
        "arXiv 2505.15133",
        "`fractionate train digits`",
        f"torch {torch.__version__}",
        "`model.pt2` (torch-export)",
    ):
        assert fact in card
    assert "onnx" not in card
    assert (tmp_path / "out" / "training.yaml").read_bytes() == (run / "config.yaml").read_bytes()


def test_a_card_can_be_written_whatever_a_folder_is_called(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    facts = json.loads((copy / "summary.json").read_text())
    facts["command"] = ["fractionate", "train", "--data", "caf\udce9\x1b[31m"]
    (copy / "summary.json").write_text(json.dumps(facts))
    export_run(copy, tmp_path / "out", console=console())
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert r"caf\udce9\x1b[31m" in card


def test_the_loading_code_of_the_card_runs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_run(run, tmp_path / "FOLDER", ("safetensors", "torch-export"), console=console())
    monkeypatch.chdir(tmp_path)
    blocks = (tmp_path / "FOLDER" / "README.md").read_text(encoding="utf-8").split("```python\n")[1:]
    for block, images in zip(blocks, (digits("test").images[:3], torch.zeros(3, 1, 8, 8)), strict=True):
        names: dict[str, object] = {"images": images}
        exec(block.partition("```")[0], names)
        assert names["logits"].shape == (3, 10)


def test_labels_alone_name_no_teacher(tmp_path: Path) -> None:
    run_in_folder(tiny("ce", epochs=1), tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "out", console=console())
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "trained for 1 epoch on labels alone" in card
    assert "teacher" not in card


def test_the_card_of_another_task_names_its_headline_and_no_other(run: Path, tmp_path: Path) -> None:
    path = run.parent / "miou" / "summary.json"
    shutil.copytree(run, path.parent)
    facts = json.loads(path.read_text("utf-8"))
    for key in ("last_top1", "best_top1", "teacher_top1", "last_top5", "ece", "agreement"):
        del facts[key]
    facts |= {"headline": "miou", "last_miou": 71.25, "best_miou": 72.5, "teacher_miou": 80.125, "last_ap": 40.0}
    path.write_text(json.dumps(facts), "utf-8")
    export_run(path.parent, tmp_path / "out", console=console())
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for fact in (
        f"({facts['teacher_params']:,} parameters, 80.12 % mIoU)",
        "| mIoU on the test images, last epoch | 71.25 % |",
        "| AP on the test images, last epoch | 40.00 % |",
        "not an honest estimate | 72.50 % |",
    ):
        assert fact in card
    assert "top-1" not in card


def test_a_folder_that_is_taken_stays_as_it_is(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(ValueError, match="is there already; choose another folder"):
            export_run(run, taken, console=console())
    assert [f.name for f in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_made_is_said_by_its_own_name(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place, why in ((tmp_path / "file" / "x", "not a directory"), (tmp_path / ("x" * 300), "file name too long")):
        with pytest.raises(OSError, match=f"^cannot write to {place}: {why}; choose another folder$"):
            export_run(run, place, console=console())
    export_run(run, tmp_path / ("x" * 250), console=console())  # as long as names may be


def test_a_failure_leaves_nothing_behind(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("logits differ")

    monkeypatch.setitem(FORMATS, "torch-export", (broken, ()))
    with pytest.raises(ValueError, match="logits differ"):
        export_run(run, tmp_path / "out", ("safetensors", "torch-export"), console=console())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ONNX)
def test_a_missing_package_is_named_with_its_extra(
    package: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ONNX:
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    with pytest.raises(ImportError, match=rf"'onnx' needs the package '{package}'.*fractionate\[export\]"):
        export_run(run, tmp_path / "out", ("onnx",), console=console())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wanted", "message"), [(("onx",), "unknown format 'onx': did you mean 'onnx'"), ((), "at least one format")]
)
def test_formats_are_named(wanted: tuple[formats.Format, ...], message: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        export_run(run, tmp_path / "out", wanted, console=console())


def test_an_unfinished_run_does_not_leave(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished run"):
        export_run(tmp_path / "nowhere", tmp_path / "out", console=console())


def shifted(net: nn.Module, by: float) -> nn.Module:
    class Shifted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return net(x) + by

    return Shifted()


def test_other_logits_are_refused_beyond_the_tolerance_only() -> None:
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.zeros(5, 1, 2, 2)
    assert compare(shifted(net, 1e-5), net, x, "a copy") == pytest.approx(1e-5, rel=0.1)
    for by in (1e-3, float("nan")):
        with pytest.raises(ValueError, match=r"a copy: logits differ from the network's by .* nothing was exported"):
            compare(shifted(net, by), net, x, "a copy")
    with pytest.raises(ValueError, match="by 1e-05, allowed is 0"):
        compare(shifted(net, 1e-5), net, x, "a copy", tolerance=0.0)


def test_a_batch_size_that_was_frozen_is_noticed() -> None:
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.zeros(5, 1, 2, 2)
    with pytest.raises(ValueError, match=r"a copy: a batch of 1 gives \[2, 3\], the network \[1, 3\]"):
        compare(lambda images: net(x[:2]), net, x, "a copy")


def test_the_config_is_plain_json_with_our_part_under_our_name(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "out", console=console())
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config["fractionate"]["name"] == "convnet_4_8"
    assert config["fractionate"]["input_size"] == [1, 8, 8]


def test_weights_that_the_run_did_not_write_do_not_leave_under_its_numbers(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    with RunFolder(tmp_path / "run").student.open("ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match="not the file that this run wrote"):
        export_run(tmp_path / "run", tmp_path / "out", console=console())
    assert not (tmp_path / "out").exists()
