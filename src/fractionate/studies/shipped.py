"""What is left for others once a student is trained on somebody's own pictures: its files, its card, and a page."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from ..export import Format, export_run
from ..probe.examples import write_examples
from ..runs.folder import SUMMARY
from ..world import current

if TYPE_CHECKING:
    from rich.console import Console

EXPORTED, PAGE = "exported", "report.html"
ONNX_NEEDS = ("onnx", "onnxscript", "onnxruntime")


def ship(runs: Sequence[Path], console: Console) -> None:
    """Export the first run's student with its card, as ONNX too where the packages are there, and write the page.

    The files lie beside the runs of the method, in a folder ``exported``; one from an earlier run of the command is
    replaced. What cannot be written is said, and takes nothing from the run.

    Args:
        runs: finished run folders of one method.
        console: where it is said.
    """
    if not current().main:
        return
    first = runs[0]
    out = first.parent / EXPORTED
    hand_over(first, out, console)
    show(runs, console)
    _write_page(first.parent.parent, console)


def hand_over(run: Path, out: Path, console: Console) -> None:
    """Export a finished run with its card, as ONNX too where the packages are there; what cannot be written is said.

    Args:
        run: finished run folder.
        out: where to; an earlier export that is there is replaced.
        console: where it is said.
    """
    formats: list[Format] = ["safetensors"]
    if all(importlib.util.find_spec(name) for name in ONNX_NEEDS):
        formats.append("onnx")
    else:
        console.print(
            "no ONNX file: pip install 'fractionate[export]' brings what writes it", markup=False, highlight=False
        )
    try:
        if not _newer(out, run):
            _make_room(out)
            with _said_before():
                export_run(run, out, formats, console=console)
    except Exception as error:  # an exporter of torch raises nearly anything; the run is whole
        said = " ".join(str(error).split())[:300]
        told = f"the student was not exported ({said}): fractionate export {quote(str(run))} --out DIR"
        console.print(told, style="yellow", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _said_before() -> Iterator[None]:
    """Around what reads the pictures once more: which of them are left out was said when the run read them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _newer(out: Path, run: Path) -> bool:
    """Whether what lies there came out of this very run."""
    card = out / "README.md"
    return card.is_file() and card.stat().st_mtime_ns >= (run / SUMMARY).stat().st_mtime_ns


def _make_room(out: Path) -> None:
    """Remove an earlier export, and nothing else."""
    if (out / "training.yaml").is_file() and (out / "config.json").is_file():
        shutil.rmtree(out)


def show(runs: Sequence[Path], console: Console) -> None:
    """Write what pages show beside the numbers; where data or weights are gone that is said, and a page lacks it."""
    if not current().main:
        return
    try:
        with _said_before():
            write_examples(runs)
    except (ValueError, OSError, ImportError) as error:
        told = f"the page shows no pictures: {' '.join(str(error).split())}"
        console.print(told, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _write_page(folder: Path, console: Console) -> None:
    """The page of all runs of this pair of networks, labels alone and other methods among them."""
    from ..report import write_page

    try:
        page = write_page([folder], folder / PAGE, title="A folder of images")
    except (ValueError, OSError, ImportError) as error:
        again = f"fractionate report {quote(str(folder))} --out report.html"
        told = f"no page was written ({' '.join(str(error).split())}): {again}"
        console.print(told, style="yellow", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(str(page), markup=False, highlight=False, soft_wrap=True)
