"""Pictures, classes and times on the page: read from what runs left, and nothing else let in."""

from __future__ import annotations

import json
import re
import shutil
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fractionate.config.run import Network
from fractionate.probe.examples import farthest, png, write_examples
from fractionate.report import read_runs, table, write_page
from fractionate.report.examples import read_examples, shown
from fractionate.report.summary import RunFolderError
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.studies.shipped import show
from tests.train.runs import teacher_file, tiny


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("examples")
    teacher = Network("convnet_8_16", checkpoint=teacher_file(root))
    folders = []
    for method in ("ce", "kd"):
        for seed in (0, 1):
            folders.append(root / method / f"seed-{seed}")
            run_in_folder(tiny(method, teacher=teacher, epochs=1, seed=seed), folders[-1])
    write_examples(folders)
    return folders


def test_counts_by_class_add_up_to_the_accuracy_of_the_run(runs: list[Path]) -> None:
    for folder in runs:
        facts, found = RunFolder(folder).summary(), read_examples(folder)
        assert found is not None
        assert 100 * sum(found.student) / sum(found.count) == pytest.approx(facts["last_top1"])
        assert found.teacher is not None
        assert 100 * sum(found.teacher) / sum(found.count) == pytest.approx(facts["teacher_top1"])
        assert (found.ms[0] is not None) == (folder.name == "seed-0") == bool(found.pictures)


def test_the_pictures_are_those_whose_probabilities_are_farthest_apart() -> None:
    torch.manual_seed(0)
    own, other = 3 * torch.randn(40, 5), 3 * torch.randn(40, 5)
    target = torch.arange(40) % 5
    for teacher in (other, None):
        slow = []
        for i in range(40):
            p = own[i].double().softmax(0)
            q = torch.eye(5).double()[target[i]] if teacher is None else teacher[i].double().softmax(0)
            if int(p.argmax()) != int(q.argmax()):
                slow.append((-float((p - q).abs().sum()) / 2, i))
        assert farthest(own, teacher, target, 8) == [i for _, i in sorted(slow)[:8]]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_a_png_that_any_reader_reads(channels: int) -> None:
    from io import BytesIO

    from PIL import Image

    pixels = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    image = Image.open(BytesIO(png(pixels)))
    assert image.size == (7, 5)
    read = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(5, 7, channels).permute(2, 0, 1)
    assert torch.equal(read, pixels)


def test_the_page_shows_pictures_classes_and_sizes_and_loads_nothing(runs: list[Path], tmp_path: Path) -> None:
    text = write_page(runs, tmp_path / "page.html").read_text(encoding="utf-8")
    found = shown(table(read_runs(runs)).rows)
    assert found is not None
    assert (found.row.label, found.against) == ("kd", "labels alone")
    sources = re.findall(r'<img src="([^"]*)"', text)
    assert len(sources) == len(found.examples.pictures) > 0
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for words in ("Where student and teacher differ most", "Which classes changed", "ms per picture"):
        assert words in text
    by_name = {change.name: change for change in found.changes}
    examples = {folder: read_examples(folder) for folder in runs}
    for k, name in enumerate(found.examples.classes):
        right = {m: sum(examples[f].student[k] for f in runs if f.parent.name == m) for m in ("ce", "kd")}  # type: ignore[union-attr]
        if name in by_name:
            gain = 100 * (right["kd"] - right["ce"]) / (2 * found.examples.count[k])
            assert by_name[name].points == pytest.approx(gain)


def test_a_page_of_runs_without_examples_is_as_before(runs: list[Path], tmp_path: Path) -> None:
    for folder in runs:
        shutil.copytree(folder, tmp_path / folder.parent.name / folder.name)
    for file in tmp_path.rglob("examples.json"):
        file.unlink()
    text = write_page([tmp_path], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<img" not in text
    assert "ms per picture" not in text


HOSTILE = '"><script>alert(1)</script>'


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["a"]},
        {"count": None},
        {"pictures": [{"png": "x", "label": "0", "student": ["0", 1.0], "teacher": None}]},
        {"pictures": [{"png": "PHN2Zz4=", "label": "0", "student": ["0", 1], "teacher": None}]},
        {"teacher": [1]},
        {"ms": {"student": "fast"}},
    ],
)
def test_a_damaged_file_is_named(change: dict[str, object], runs: list[Path], tmp_path: Path) -> None:
    facts = json.loads((runs[0] / "examples.json").read_text())
    (tmp_path / "examples.json").write_text(json.dumps(facts | change))
    with pytest.raises(RunFolderError, match=r"examples\.json: is not what a run leaves"):
        read_examples(tmp_path)


def test_names_of_classes_are_text(runs: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "kd"
    shutil.copytree(runs[2], folder)
    facts = json.loads((folder / "examples.json").read_text())
    facts["classes"][0] = facts["pictures"][0]["label"] = HOSTILE
    (folder / "examples.json").write_text(json.dumps(facts))
    assert "<script" not in write_page([folder], tmp_path / "page.html").read_text(encoding="utf-8")


def test_what_is_there_stays_and_what_is_gone_is_said(runs: list[Path], tmp_path: Path) -> None:
    before = (runs[0] / "examples.json").stat().st_mtime_ns
    write_examples(runs)
    assert (runs[0] / "examples.json").stat().st_mtime_ns == before
    said = StringIO()
    shutil.copytree(runs[0], tmp_path / "run")
    (tmp_path / "run" / "examples.json").unlink()
    (tmp_path / "run" / "student.safetensors").unlink()
    show([tmp_path / "run"], Console(file=said, width=300))
    assert "the page shows no pictures" in said.getvalue()
