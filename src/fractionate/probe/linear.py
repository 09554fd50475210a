"""The linear probe: how well a frozen student's features tell the classes of other images, by a new last layer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._files import write_atomically
from .._headlines import headline
from .._typing import Float, Int
from ..config.data import Data, Name
from ..config.method import MethodSpec
from ..config.optimizers import SGD, LearningRate
from ..config.ranges import SIZED
from ..config.run import Run
from ..data import Normalization, SmallImages
from ..models import switched
from ..models.foreign import pick_logits, run_on
from ..models.preprocessing import Shown, shown
from ..optim import stream_grads
from ..runs.folder import RunFolder
from ..runs.origin import code_problem, student_problem
from ..tasks import Evaluation
from ..tasks.classification import measure
from ..train.device import fixed_threads, place
from ..train.networks import build
from ..train.optimizer import scheduler, stream_optimizer
from ..train.pixels import said_by
from ..train.sources import SETS, Images, resident

if TYPE_CHECKING:
    from rich.console import Console

# Pixels of the images that a student was trained on, where the config says nothing; of other photos 224.
SIDES = {"digits": 8, "mnist": 28, "fashion-mnist": 28, "cifar10": 32, "cifar100": 32, "tiny-imagenet": 64, "stl10": 96}
SHIFT = 4  # of STL-10, as published
Report = Callable[[int, Evaluation], None]


@dataclass(frozen=True)
class Probed:
    """What a linear probe found.

    Args:
        epochs: metrics on the test images after every epoch.
        features: how many numbers the new layer reads of an image.
    """

    epochs: tuple[Evaluation, ...]
    features: int

    @property
    def last(self) -> Evaluation:
        """After the last epoch."""
        return self.epochs[-1]

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, with the best score on the test images: what published tables often show."""
        return 1 + max(range(len(self.epochs)), key=lambda i: self.epochs[i].score)

    @property
    def best(self) -> Evaluation:
        """After that epoch."""
        return self.epochs[self.best_epoch - 1]


def probe_settings(name: Name, trained: Run, root: str | None = None) -> Run:
    """The published settings of a linear probe: SGD at 0.05 for 120 epochs, a tenth of it after 30, 60 and 90.

    Images have the side of those that the student was trained on; STL-10's are shifted by up to 4 pixels.

    Args:
        name: the other set of images.
        trained: the student's run.
        root: folder of that set.

    Raises:
        ValueError: the side is not known: pictures of a folder were taken at that of the first one.

    Source: giakoumoglou/distillers (STL-10 and Tiny-ImageNet for a student of CIFAR-100).

    Example:
        >>> from fractionate.papers.recipes import paper
        >>> run = paper("cifar100/kd/resnet56__resnet20/mdistiller").run()
        >>> probe_settings("stl10", run).data.size, probe_settings("stl10", run).epochs
        (32, 120)
    """
    side = trained.data.size or SIDES.get(trained.data.name, 224)
    if trained.data.name == "folder" and trained.data.size is None:
        raise ValueError("at which size was the student trained? give data.size=N for the images of the probe")
    size = side if name in SIZED and side != SIDES.get(name) else None
    shift = SHIFT if name == "stl10" else 0
    return Run(
        student=trained.student,
        method=MethodSpec("ce"),
        data=Data(name, root, size=size, batch_size=64, shift=shift),
        optimizer=SGD(lr=0.05, momentum=0.9, weight_decay=5e-4),
        learning_rate=LearningRate("step", milestones=(30, 60, 90)),
        epochs=120,
        device=trained.device,
        threads=trained.threads,
    )


def probe_run(folder: Path, settings: Run, console: Console) -> Probed:
    """Probe the student of a run folder, print what came out, and keep it there as ``linear-probe-SET.json``.

    The images are normalised as those were that the student was trained on.

    Args:
        folder: of a finished run.
        settings: images, solver, length and seed of the new layer.
        console: where a line goes.

    Raises:
        ValueError: no finished run, images of other channels, or images that are loaded one by one or have no labels.
    """
    if settings.data.workers is not None or settings.data.unlabelled is not None:
        raise ValueError(
            "a linear probe reads its images into memory, all with labels: leave out data.workers, what goes with it "
            "(data.crop_pct ...) and data.unlabelled"
        )
    target = RunFolder(folder)
    facts, trained = target.summary(), target.config()
    for problem in filter(None, (student_problem(facts, folder), code_problem(facts, trained))):
        console.print(problem, style="yellow", markup=False, highlight=False, soft_wrap=True)
    seen = facts.get("images") or {}
    classes = len(seen.get("classes") or ()) or _classes_of(target, trained)
    net = build(replace(trained.student, checkpoint=str(target.student), pretrained=False), classes)
    images = SETS[settings.data.name](settings.data)
    if seen:
        images = replace(images, normalization=Normalization(tuple(seen["mean"]), tuple(seen["std"])))
    if len(images.normalization.mean) != images.train.images.shape[1]:
        raise ValueError(
            f"the student was trained on images of {len(images.normalization.mean)} channels, those of "
            f"{settings.data.name} have {images.train.images.shape[1]}; take a set of the same kind"
        )
    if (wanted := said_by(facts)) is not None:  # the student saw pixels its own way, and goes on to
        net = shown(net, Shown(wanted, images.normalization.mean, images.normalization.std))
    with fixed_threads(settings.threads):
        found = linear_probe(net, images, settings)
    _keep(target.path / f"linear-probe-{settings.data.name}.json", found, settings)
    metric = headline(found.last.headline)
    console.print(
        f"linear probe on {settings.data.name}: {metric.value(found.last.score)} {metric.label} after "
        f"{len(found.epochs)} epochs (best {metric.value(found.best.score)}, after epoch {found.best_epoch}), "
        f"{found.features} features, "
        f"{len(images.train):,} images to train on, {len(images.test):,} to test",
        highlight=False,
        soft_wrap=True,
    )
    return found


def _classes_of(target: RunFolder, trained: Run) -> int:
    """Of a run that did not write its classes down: as many as its images have."""
    return SETS[trained.data.name](trained.data).train.num_classes


def linear_probe(net: nn.Module, images: Images, settings: Run, report: Report | None = None) -> Probed:
    """Train a new last layer, and nothing else, on what a network says about images before its own last layer.

    The network stays in evaluation mode: batch norms use the statistics that they have. Where nothing is done to the
    training images, every image goes through it once.

    Args:
        net: whose logits come out of a linear layer.
        images: of the other set.
        settings: ``data``, ``optimizer``, ``learning_rate``, ``epochs``, ``seed`` and ``device`` are read.
        report: told the metrics after every epoch.

    Raises:
        ValueError: a network whose logits are no linear layer's.
    """
    device = place(settings.device)
    train, test = resident(images, settings.data, settings.seed, device)
    features = Features(net.to(device), next(iter(test.batches(1))).images)
    torch.manual_seed(settings.seed)
    head = nn.Linear(features.width, images.train.num_classes).to(device)
    optimizer = stream_optimizer(settings, head.parameters(), settings.method.build().momenta(settings.optimizer.base))
    rates = scheduler(optimizer, settings.learning_rate, settings.epochs, len(train))
    kept, target = _all(features, test)
    fixed = _all(features, train)[0] if train.variants is not None and len(train.forms) == 1 else None
    found = []
    for epoch in range(1, settings.epochs + 1):
        for batch in train.batches(epoch):
            x = features(batch.images) if fixed is None else fixed[batch.index]
            loss = F.cross_entropy(head(x), batch.target)
            optimizer.step(stream_grads({"loss": loss}, list(head.parameters())))
            rates.step()
        with torch.no_grad():
            found.append(measure(head(kept), target))
        if report:
            report(epoch, found[-1])
    return Probed(tuple(found), features.width)


class Features:
    """What a frozen network's last layer reads of images.

    Args:
        net: it is frozen and put into evaluation mode.
        images: some, to find the layer by.

    Attributes:
        width: how many numbers.

    Raises:
        ValueError: no linear layer's output is what the network returns.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> Features(net, torch.zeros(5, 1, 2, 2))(torch.ones(5, 1, 2, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(self, net: nn.Module, images: Tensor) -> None:
        self.net = switched(net, False).requires_grad_(False)
        self.head = self._head(images)
        self.width = self.head.in_features

    def __call__(self, images: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n d"]:
        """The features, without a graph."""
        seen: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
        try:
            with torch.no_grad():
                run_on(self.net, images, "student")
        finally:
            handle.remove()
        return seen[-1].float()

    def _head(self, images: Tensor) -> nn.Linear:
        """The layer whose output the network returns as its logits."""
        said: list[tuple[nn.Linear, Tensor]] = []
        layers = [m for m in self.net.modules() if isinstance(m, nn.Linear)]
        handles = [m.register_forward_hook(lambda module, given, out: said.append((module, out))) for m in layers]
        try:
            with torch.no_grad():
                logits = pick_logits(run_on(self.net, images, "student"), "student")
        finally:
            for handle in handles:
                handle.remove()
        fitting = [m for m, out in said if out.shape == logits.shape and torch.equal(out, logits)]
        if not fitting:
            raise ValueError(
                f"a linear probe puts a new layer in the place of the last one, and the logits of "
                f"{type(self.net).__name__} do not come out of a linear layer; take another student"
            )
        return fitting[-1]


def _all(features: Features, source: SmallImages) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"]]:
    """Features and labels of every image, in the order of the set."""
    index, found = [], []
    for batch in source.batches(1):
        index.append(batch.index)
        found.append(features(batch.images))
    order = torch.cat(index).argsort()
    return torch.cat(found)[order], source.target


def _keep(file: Path, found: Probed, settings: Run) -> None:
    data, solver = asdict(settings.data), asdict(settings.optimizer)
    told: dict[str, Any] = {
        "headline": found.last.headline,
        found.last.headline: found.last.score,
        f"best_{found.last.headline}": found.best.score,
        "best_epoch": found.best_epoch,
        "features": found.features,
        "epochs": [evaluation.columns() for evaluation in found.epochs],
        "settings": {
            "data": data,
            "optimizer": solver,
            "learning_rate": asdict(settings.learning_rate),
            "epochs": settings.epochs,
            "seed": settings.seed,
        },
    }
    write_atomically(file, json.dumps(told, indent=1))
