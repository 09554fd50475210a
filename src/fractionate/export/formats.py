"""The formats a network leaves the package in: each is written, read back, and compared with the network."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ..models import Description, OnlyLogits, OnlyMaps, load_exported, pick_logits, pick_maps, save_exported
from ..models.dense import is_dense
from ..models.detection import are_detections, numbers_of
from ..models.exported import CONFIG
from ..models.foreign import run_on

Format = Literal["safetensors", "onnx", "torch-export"]
TOLERANCE = 1e-4  # of the largest logit; other kernels add up in another order, which costs about 1e-6
BATCHES = (1, 3)  # besides all images at once: a batch that is not dynamic is noticed
ONNX, PROGRAM = "model.onnx", "model.pt2"
LARGEST_IN_ONE_FILE = 1.9 * 2**30  # bytes; protobuf ends at 2 GiB
FIRST_WITH_GOOD_ONNX = (2, 9)  # torch: its own ONNX exporter is the default from here on


@dataclass(frozen=True)
class Written:
    """A format that was written and checked.

    Args:
        format: which.
        file: the file that holds the network.
        difference: largest absolute difference of a logit from the network's, over ``images`` images.
        images: how many were compared.
        note: one sentence about it.
    """

    format: Format
    file: str
    difference: float
    images: int
    note: str


Writer = Callable[[nn.Module, Description, Tensor, Path], Written]


def safetensors(net: nn.Module, description: Description, images: Tensor, folder: Path) -> Written:
    """Weights and a config, which :func:`fractionate.models.load_exported` reads."""
    save_exported(net, description, folder)
    with torch.no_grad():
        boxed = are_detections(run_on(net, images[:1]))
    if boxed:  # whoever reads the names without this package
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config["labels"] = "from 1 on: label l is classes[l - 1]; 0 is the background"
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    difference = compare(load_exported(folder, own_code=True).net, net, images, "safetensors", tolerance=0.0)
    also = '; timm.create_model("local-dir:FOLDER", pretrained=True) reads it too' if description.timm_name else ""
    return Written("safetensors", "model.safetensors", difference, len(images), f"with config.json{also}")


def torch_export(net: nn.Module, description: Description, images: Tensor, folder: Path) -> Written:
    """A program of torch's, which runs without this package."""
    _check_logits(net, images, "torch-export")
    batch = torch.export.Dim("batch")
    with _quiet():
        # not strict: torch 2.6 cannot follow get_submodule otherwise
        program = torch.export.export(_plain(net, images), (images[:2],), dynamic_shapes=({0: batch},), strict=False)
        torch.export.save(program, folder / PROGRAM)
        again = torch.export.load(folder / PROGRAM).module()
    difference = compare(again, net, images, "torch-export")
    return Written("torch-export", PROGRAM, difference, len(images), f"written by torch {torch.__version__}")


def onnx(net: nn.Module, description: Description, images: Tensor, folder: Path) -> Written:
    """An ONNX graph with a dynamic batch, checked under onnxruntime."""
    _check_logits(net, images, "onnx")
    path, own = folder / ONNX, torch.__version__.split(".")
    with _quiet():
        if tuple(map(int, own[:2])) >= FIRST_WITH_GOOD_ONNX:
            _new_exporter(_plain(net, images), images[:2], path)
        else:
            _old_exporter(_plain(net, images), images[:2], path)
    library, runtime = (importlib.import_module(name) for name in ("onnx", "onnxruntime"))
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])

    difference = compare(run, net, images, "onnx")
    imports = library.load(str(path), load_external_data=False).opset_import
    opset = next(one.version for one in imports if not one.domain)  # others are those of functions
    note = f"opset {opset}, input `images`, output `logits`, any batch size; checked with onnxruntime"
    return Written("onnx", ONNX, difference, len(images), f"{note} {runtime.__version__}")


# A new format is one more row. What it needs besides the package is in the second column.
FORMATS: dict[Format, tuple[Writer, tuple[str, ...]]] = {
    "safetensors": (safetensors, ("safetensors",)),
    "onnx": (onnx, ("onnx", "onnxscript", "onnxruntime")),
    "torch-export": (torch_export, ()),
}


def check_packages(format: Format) -> None:
    """Before anything is written.

    Raises:
        ImportError: a package that the format needs is not installed.
    """
    for name in FORMATS[format][1]:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ImportError(
                f"format {format!r} needs the package {name!r}, which is not installed: "
                f"pip install 'fractionate[export]'"
            ) from error


@torch.no_grad()
def compare(
    other: Callable[[Tensor], Tensor], net: nn.Module, images: Tensor, what: str, tolerance: float = TOLERANCE
) -> float:
    """Largest absolute difference between the logits of two networks, over batches of several sizes.

    Args:
        other: what was written and read back.
        net: what it was written from.
        images: ``[n, ch, h, w]``, normalised.
        what: name for the message.
        tolerance: allowed difference as a share of the largest logit (at least of 1).

    Raises:
        ValueError: they differ by more, or in shape.
    """
    largest = 0.0
    for size in (*BATCHES, len(images)):
        given, answer = run_on(net, images[:size]), other(images[:size])
        if are_detections(given):
            expected, found = numbers_of(given), numbers_of(answer)
        else:
            pick = pick_maps if is_dense(given) else pick_logits
            expected, found = pick(given, type(net).__name__), pick(answer, what)
        if found.shape != expected.shape:
            raise ValueError(f"{what}: a batch of {size} gives {list(found.shape)}, the network {list(expected.shape)}")
        apart, size_of = ((found - expected).abs(), expected.abs())
        difference, largest_of = (float(x.max()) if x.numel() else 0.0 for x in (apart, size_of))
        allowed = tolerance * max(1.0, largest_of)
        if not difference <= allowed:  # also when it is not a number
            raise ValueError(
                f"{what}: logits differ from the network's by {difference:.2g}, allowed is {allowed:.2g}; nothing was "
                f"exported. Other versions of torch or of the format's packages may do better"
            )
        largest = max(largest, difference)
    return largest


def _check_logits(net: nn.Module, images: Tensor, format: str) -> None:
    """Refuse detectors, of which a recorded graph would keep one image's number of boxes."""
    with torch.no_grad():
        if are_detections(run_on(net, images[:1])):
            raise ValueError(
                f"format {format!r} holds networks that return logits, and a detector returns boxes; "
                f"export it with --format safetensors, which fractionate.models.load_exported reads"
            )


def _plain(net: nn.Module, images: Tensor) -> nn.Module:
    """The network itself where it returns a tensor of logits, else one that does."""
    with torch.no_grad():
        output = net(images[:2])
    if is_dense(output):
        return net if isinstance(output, Tensor) else OnlyMaps(net)
    return net if isinstance(output, Tensor) and output.ndim == 2 else OnlyLogits(net)


def _new_exporter(net: nn.Module, images: Tensor, path: Path) -> None:
    size = sum(x.numel() * x.element_size() for x in net.state_dict().values())
    torch.onnx.export(
        net,
        (images,),
        path,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["images"],
        output_names=["logits"],
        external_data=size > LARGEST_IN_ONE_FILE,
        optimize=True,
        verbose=False,
    )


def _old_exporter(net: nn.Module, images: Tensor, path: Path) -> None:
    names = {"images": {0: "batch"}, "logits": {0: "batch"}}
    torch.onnx.export(
        net, (images,), str(path), dynamo=False, input_names=["images"], output_names=["logits"], dynamic_axes=names
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn about their own insides; what counts is the comparison afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
