"""The linear probe: only the new layer learns, by the published settings, to what its slow twin learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fractionate.cli import main
from fractionate.config.data import Data
from fractionate.config.files import to_yaml
from fractionate.config.method import MethodSpec
from fractionate.config.optimizers import SGD, LearningRate
from fractionate.config.run import Network, Run
from fractionate.data import Labelled, Normalization
from fractionate.models import create
from fractionate.papers.recipes import paper
from fractionate.probe.linear import Features, linear_probe, probe_run, probe_settings
from fractionate.runs import RunFolder
from fractionate.train.sources import Images
from tests.data import photo_trees as trees
from tests.papers.cells import table


def images(count: int = 24, test: int = 9, side: int = 8) -> Images:
    made = torch.Generator().manual_seed(0)

    def some(n: int) -> Labelled:
        pixels = torch.randint(0, 256, (n, 1, side, side), generator=made).byte()
        return Labelled(pixels, torch.arange(n) % 3, 3)

    return Images(some(count), some(test), Normalization((0.5,), (0.25,)))


def settings(**changes: object) -> Run:
    run = Run(
        student=Network("convnet_4_8"),
        method=MethodSpec("ce"),
        data=Data(batch_size=8),
        optimizer=SGD(lr=0.05, momentum=0.9, weight_decay=5e-4),
        learning_rate=LearningRate("step", milestones=(3, 6)),
        epochs=8,
        device="cpu",
        threads=1,
    )
    return replace(run, **changes)


@pytest.mark.parametrize("shift", [0, 1])
def test_the_new_layer_learns_what_its_twin_learns(shift: int) -> None:
    """The twin: torch's SGD and MultiStepLR on a head over the network's features, batch by batch."""
    from fractionate.train.sources import resident

    torch.manual_seed(1)
    net, run = create("convnet_4_8", num_classes=10), settings(data=Data(batch_size=8, shift=shift))
    before = {name: x.clone() for name, x in net.state_dict().items()}
    found = linear_probe(net, images(), run)
    for name, x in net.state_dict().items():
        assert torch.equal(x, before[name]), name  # batch norms' statistics too

    train, test = resident(images(), run.data, run.seed, torch.device("cpu"))
    body = create("convnet_4_8", num_classes=10).eval()
    body.load_state_dict(before)
    width = body.fc.in_features
    body.fc = nn.Identity()
    torch.manual_seed(run.seed)
    head = nn.Linear(width, 3)
    solver = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    steps = torch.optim.lr_scheduler.MultiStepLR(solver, [3, 6], 0.1)
    for epoch in range(1, 9):
        for batch in train.batches(epoch):
            solver.zero_grad()
            F.cross_entropy(head(body(batch.images).detach()), batch.target).backward()
            solver.step()
        steps.step()
        whole = next(test.batches(1))
        with torch.no_grad():
            logits = head(body(whole.images))
        loss = F.cross_entropy(logits, whole.target)
        assert found.epochs[epoch - 1].loss == pytest.approx(float(loss), rel=1e-4)
        assert found.epochs[epoch - 1].top1 == pytest.approx(
            100 * float((logits.argmax(1) == whole.target).double().mean())
        )
    assert found.features == width
    assert found.epochs[found.best_epoch - 1].top1 == max(e.top1 for e in found.epochs)


@pytest.mark.parametrize(
    "name", ["resnet8", "wrn_16_2", "vgg8", "mobilenet_v2", "shufflenet_v1", "timm:vit_tiny_patch16_224"]
)
def test_the_last_layer_is_found_by_what_it_says(name: str) -> None:
    if ":" in name:
        pytest.importorskip("timm")
    net = create(name, num_classes=7)
    x = torch.randn(2, 3, 224, 224) if ":" in name else torch.randn(2, 3, 32, 32)
    features = Features(net, x)
    with torch.no_grad():
        assert torch.allclose(features.head(features(x)), net(x), atol=1e-6)
    assert not any(p.requires_grad for p in net.parameters())


def test_logits_that_no_linear_layer_says_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())
    with pytest.raises(ValueError, match="do not come out of a linear layer"):
        linear_probe(net, images(), settings())


@pytest.mark.parametrize("id", [c["id"] for c in table() if c["method"] == "linear-probe"])
def test_the_settings_are_those_of_the_published_rows(id: str) -> None:
    cells = next(c for c in table() if c["id"] == id)
    name = {"stl10": "stl10", "tiny_imagenet": "tiny-imagenet"}[cells["dataset"]]
    run = probe_settings(name, paper("cifar100/kd/wrn_40_2__wrn_16_2/mdistiller").run())
    solver, rate = run.optimizer, run.learning_rate
    assert run.student.name == cells["student"]
    assert (solver.name, solver.lr, solver.momentum) == (
        cells["optimizer"],
        float(cells["lr"]),
        float(cells["momentum"]),
    )
    assert solver.weight_decay == float(cells["weight_decay"])
    assert (rate.schedule, rate.milestones, rate.decay) == ("step", (30, 60, 90), float(cells["lr_decay"]))
    assert " ".join(map(str, rate.milestones)) == cells["milestones"]
    assert (run.epochs, run.data.batch_size, run.data.size) == (int(cells["epochs"]), int(cells["batch_size"]), 32)
    assert "resized to 32" in cells["augmentation"]
    assert (run.data.shift, run.data.flip) == ((4, False) if "crop32-pad4" in cells["augmentation"] else (0, False))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of three grey tones, trained on colour pictures."""
    root = tmp_path_factory.mktemp("probe")
    for label, name in enumerate(("ant", "bee", "cow")):
        for part, count in (("train", 6), ("test", 2)):
            for i in range(count):
                trees.picture(root / "images" / part / name / f"{i}.png", label, kind="PNG")
    run = settings(student=Network("resnet8"), data=Data("folder", root=str(root / "images"), size=16, batch_size=6))
    (root / "config.yaml").write_text(to_yaml(replace(run, epochs=1, learning_rate=LearningRate())))
    assert main(["train", "--config", str(root / "config.yaml"), "--out", str(root / "run")]) == 0
    (found,) = (path.parent for path in (root / "run").rglob("student.safetensors"))
    return found


def test_a_run_s_student_is_probed_by_the_command_and_the_numbers_are_kept(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.stl_files(tmp_path, train=60)
    words = ["linear-probe", str(finished), "--on", "stl10", "--data", str(tmp_path), "epochs=3"]
    assert main([*words, "learning_rate={schedule: constant}"]) == 0
    assert "linear probe on stl10" in capsys.readouterr().out
    told = json.loads((finished / "linear-probe-stl10.json").read_text())
    assert len(told["epochs"]) == 3
    assert told["settings"]["data"]["size"] == 16  # that of the student
    assert told["top1"] == told["epochs"][-1]["top1"]
    weights = (finished / "student.safetensors").read_bytes()
    trees.tiny_tree(tmp_path / "tiny")
    words = ["linear-probe", str(finished), "--on", "tiny-imagenet", "--data", str(tmp_path / "tiny"), "data.size=16"]
    assert main([*words, "epochs=40", "learning_rate={schedule: constant}"]) == 0
    assert json.loads((finished / "linear-probe-tiny-imagenet.json").read_text())["top1"] > 90  # three tones again
    assert (finished / "student.safetensors").read_bytes() == weights


def test_the_pixels_are_normalised_as_the_student_saw_them(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from fractionate.probe import linear

    seen = []
    monkeypatch.setattr(linear, "linear_probe", lambda net, images, run: seen.append(images) or linear.Probed((), 0))
    monkeypatch.setattr(linear, "_keep", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    trees.stl_files(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        probe_run(finished, probe_settings("stl10", RunFolder(finished).config(), str(tmp_path)), Console())
    facts = RunFolder(finished).summary()["images"]
    assert seen[0].normalization == Normalization(tuple(facts["mean"]), tuple(facts["std"]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name one run folder"),
        (["RUN", "--on", "stl11"], "did you mean"),
        (["nowhere"], "nowhere"),
        (["RUN", "--on", "digits"], "images of 3 channels, those of digits have 1"),
        (["RUN", "--on", "folder", "--data", "x", "data.workers=0"], "leave out data.workers"),
    ],
)
def test_what_cannot_be_probed_is_said_in_one_line(
    words: list[str], said: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["linear-probe", *(str(finished) if word == "RUN" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
