"""What the student of a run says about pictures, beside its teacher."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .._files import expanded
from .._terminal import one_line, printable
from ..config.run import Network, Run
from ..data import Normalization
from ..data.images import View, read_image
from ..models import logits_of, preprocessing_of, switched
from ..models.preprocessing import Shown, shown
from ..pictures.heads import need_pillow
from ..runs.folder import RunFolder
from ..runs.origin import problems
from ..train.device import autocast, fixed_threads, place
from ..train.health import check_weights
from ..train.networks import build
from ..train.pixels import said_by
from ..train.sources import evaluation_source
from .measure import no_weights

if TYPE_CHECKING:
    from rich.console import Console

AT_ONCE = 32  # pictures
GREY = (0.299, 0.587, 0.114)  # of red, green and blue, as Pillow makes grey of them


@dataclass(frozen=True)
class Said:
    """What both networks say about one picture.

    Args:
        picture: the file.
        student: classes with their probabilities, the likeliest first.
        teacher: likewise; ``None`` where its weights are not at hand.
    """

    picture: Path
    student: list[tuple[str, float]]
    teacher: list[tuple[str, float]] | None

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "picture": str(self.picture),
            **{
                who: said and [{"class": name, "probability": share} for name, share in said]
                for who, said in (("student", self.student), ("teacher", self.teacher))
            },
        }


@dataclass(frozen=True)
class Frame:
    """What a run was shown: classes, normalisation, and the shape of an image."""

    classes: tuple[str, ...]
    rule: Normalization
    shape: tuple[int, int, int]


def predict_pictures(
    folder: Path,
    pictures: Sequence[Path],
    console: Console,
    *,
    top: int = 3,
    device: str | None = None,
    as_json: bool = False,
) -> list[Said]:
    """Say what the student of a finished run sees in pictures, and its teacher where the weights are at hand.

    Pictures are brought to the run's size as its own were: the shorter side is resized, then the centre is cut out.

    Args:
        folder: of the run; its data need not be there.
        pictures: files.
        console: where it is said.
        top: how many classes of each network.
        device: where to compute; ``None`` = where the run says.
        as_json: say it as JSON.

    Raises:
        ValueError: no finished run, weights that do not fit, no pictures, or one that cannot be read.
        FileNotFoundError: no such picture.
    """
    need_pillow()
    if not pictures:
        raise ValueError("name at least one picture: fractionate predict RUN PICTURE ...")
    if top < 1:
        raise ValueError(f"predict: top is a number of classes of at least 1, got {top}")
    target = RunFolder(folder)
    facts, run = target.summary(), target.config()
    if run.task.name != "classification":
        raise ValueError(
            f"predict names the class of a whole picture, and {folder} was trained for {run.task.name}; fractionate "
            f"report {folder} --out report.html shows what it says about some of its test images"
        )
    run = run if device is None else replace(run, device=device)
    frame = _frame(facts, run)
    for picture in map(expanded, pictures):
        if picture.is_dir():
            raise ValueError(f"{picture} is a folder; name the pictures in it: {picture}/*")
        if not picture.is_file():
            raise FileNotFoundError(f"there is no picture {picture}")
    without = _no_teacher(run)
    told = problems(facts, run, folder)
    student = _net(replace(run.student, checkpoint=str(target.student)), said_by(facts), frame, run)
    teacher = None
    if run.teacher is not None and without is None:
        teacher = _net(run.teacher, _of_teacher(facts, run.teacher, len(frame.classes)), frame, run)
    with fixed_threads(run.threads):
        found = list(_asked(student, teacher, pictures, frame, run, min(top, len(frame.classes))))
    if as_json:
        for problem in told:
            warnings.warn(problem, stacklevel=2)
        text = json.dumps([said.plain() for said in found], indent=1)
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        _print(found, [*told, *([without] if without else [])], console)
    return found


def _frame(facts: Mapping[str, Any], run: Run) -> Frame:
    """From the summary; for runs of earlier releases, whose summary does not say it all, from the data."""
    seen = facts.get("images")
    try:
        assert isinstance(seen, dict)
        rule = Normalization(tuple(seen["mean"]), tuple(seen["std"]))
        side = run.data.size
        shape = seen.get("shape") or ([len(rule.mean), side, side] if side else None)
        channels, height, width = shape  # type: ignore[misc]
        assert seen["classes"]
        return Frame(tuple(map(str, seen["classes"])), rule, (int(channels), int(height), int(width)))
    except (AssertionError, KeyError, TypeError, ValueError):
        source = evaluation_source(run.data, torch.device("cpu"))
        classes = source.classes or tuple(map(str, range(source.num_classes)))
        channels, height, width = next(iter(source.batches(1))).images.shape[1:]
        return Frame(classes, source.normalization, (channels, height, width))


def _no_teacher(run: Run) -> str | None:
    """Why the teacher says nothing; ``None`` where it can be asked, or there is none to ask."""
    if run.teacher is None or not (missing := no_weights(run.teacher)):
        return None
    return f"no answers of the teacher {run.teacher.name}: {missing}" if run.method.distils else ""


def _of_teacher(facts: Mapping[str, Any], teacher: Network, classes: int) -> Any:
    """How the teacher wants its pixels, as the summary says; where it is silent, as earlier releases showed them."""
    if "teacher_preprocessing" in facts:
        return said_by(facts, "teacher_preprocessing")
    file = teacher.checkpoint
    if file and (expanded(file).parent / "config.yaml").is_file():
        return None
    return preprocessing_of(build(teacher, classes), teacher.name, pretrained=teacher.pretrained and not file)


def _net(config: Network, wanted: Any, frame: Frame, run: Run) -> nn.Module:
    net = build(config, len(frame.classes))
    if wanted is not None:
        net = shown(net, Shown(wanted, frame.rule.mean, frame.rule.std))
    check_weights(config.name, net)
    return switched(net.to(place(run.device)), False)


@torch.inference_mode()
def _asked(
    student: nn.Module, teacher: nn.Module | None, pictures: Sequence[Path], frame: Frame, run: Run, top: int
) -> Iterator[Said]:
    device, loaded = place(run.device), run.data.workers is not None
    view = View(run.data.crop_pct, run.data.interpolation) if loaded else View()
    for start in range(0, len(pictures), AT_ONCE):
        some = [expanded(picture) for picture in pictures[start : start + AT_ONCE]]
        images = frame.rule(torch.stack([pixels_of(picture, frame.shape, view) for picture in some])).to(device)
        with autocast(run, device):
            said = [_likeliest(net, images, frame, top) for net in (student, teacher) if net is not None]
        for i, picture in enumerate(some):
            yield Said(picture, said[0][i], said[1][i] if teacher is not None else None)


def _likeliest(net: nn.Module, images: Tensor, frame: Frame, top: int) -> list[list[tuple[str, float]]]:
    shares, index = logits_of(net, images).double().softmax(1).topk(top, dim=1)
    return [
        [(frame.classes[k], share) for k, share in zip(row, values, strict=True)]
        for row, values in zip(index.tolist(), shares.tolist(), strict=True)
    ]


def pixels_of(picture: Path, shape: tuple[int, int, int], view: View | None = None) -> Tensor:
    """A picture as a run's images are, ``[ch, h, w]`` uint8: grey where they are, cut out in the middle.

    Raises:
        ValueError: it cannot be read.
    """
    channels, height, width = shape
    side = max(height, width)
    image = read_image(picture, side, view)
    top, left = (side - height) // 2, (side - width) // 2
    image = image[:, top : top + height, left : left + width]
    if channels == 1:
        weights = torch.tensor(GREY)[:, None, None]
        image = (image * weights).sum(0, keepdim=True).round().clamp(0, 255).to(torch.uint8)
    return image


def _print(found: Sequence[Said], notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    for said in found:
        console.print(printable(str(said.picture)), markup=False, highlight=False, soft_wrap=True)
        for who, answers in (("student", said.student), ("teacher", said.teacher)):
            if answers is not None:
                words = ", ".join(f"{one_line(name)} {100 * share:.2f} %" for name, share in answers)
                console.print(f"  {who}  {words}", markup=False, highlight=False, soft_wrap=True)
    if len(both := [said for said in found if said.teacher is not None]) > 1:
        same = sum(said.student[0][0] == (said.teacher or [("", 0)])[0][0] for said in both)
        console.print(f"the same answer for {same} of {len(both)} pictures", highlight=False)
