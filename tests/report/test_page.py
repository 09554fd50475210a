import ast
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import fractionate.report
from fractionate.report import write_page
from fractionate.report.page import TEMPLATES
from tests.report.synthetic import write_run, write_study

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>&'"
VOID = {"meta"}


class Page(HTMLParser):
    """Tags with attributes, text, and whether every tag is closed in order."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.words, self.open = [], [], []
        self.feed(source)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page(folders, out, **options):
    return Page(write_page(folders, out / "report.html", **options).read_text("utf-8"))


def test_the_page_is_self_contained(study, tmp_path):
    source = write_page(study, tmp_path / "report.html").read_text("utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(|@font-face", source)
    loading = {"script", "link", "img", "iframe", "object", "embed", "use", "image", "source"}
    found = Page(source)
    assert not loading & {tag for tag, _ in found.tags}
    assert not {"src", "href", "srcset", "style"} & {a for tag, at in found.tags for a in at if tag != "a"}


@pytest.mark.parametrize("field", ["method", "student", "teacher", "dataset", "git", "device", "command"])
def test_hostile_names_stay_text(tmp_path, field):
    folder = write_run(tmp_path / "run", **{field: HOSTILE})
    found = page([folder], tmp_path, title=HOSTILE)
    assert not {"script", "img"} & {tag for tag, _ in found.tags}
    assert not [a for _, attrs in found.tags for a in attrs if a.startswith("on")]
    assert HOSTILE in found.text


def test_hostile_column_names_and_configs_stay_text(tmp_path):
    folder = write_run(tmp_path / "run", epochs=2)
    rows = [{"epoch": e, f"component/{HOSTILE}": 1.0 / e, "test_top1": 50.0 + e} for e in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text(f"note: '{HOSTILE.replace(chr(39), chr(39) * 2)}'\n")
    found = page([folder], tmp_path)
    assert not {"script", "img"} & {tag for tag, _ in found.tags}
    assert HOSTILE in found.text


def test_the_page_prints_the_numbers_of_numpy(study, tmp_path):
    found = page(study, tmp_path)
    for method in ("labels", "gdkd"):
        folders = [folder for folder in study if folder.name.startswith(f"{method}-")]
        facts = [json.loads((folder / "summary.json").read_text()) for folder in folders]
        values = [s["last_top1"] for s in facts]
        assert f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}" in found.text
        assert f"{100 * np.mean([s['ece'] for s in facts]):.1f} ± 1.0" in found.text


def test_every_seed_is_a_dot_and_every_figure_is_there(study, tmp_path):
    found = page(study, tmp_path)
    dots = [words for words in found.words if re.fullmatch(r"kd, seed \d: [\d.]+\s%", words)]
    assert len(dots) == 3
    figures = {attrs["id"].split("-")[1] for tag, attrs in found.tags if tag == "figure"}
    assert figures == {"accuracy", "curves", "component", "gsnr", "cosine", "calibration"}


def test_the_weights_of_a_combine_rule_are_drawn_stream_by_stream(tmp_path):
    folders = write_study(tmp_path / "runs", methods=("labels", "kd"), seeds=2)
    plain = page(folders, tmp_path)
    for folder in (f for f in folders if f.name.startswith("kd")):
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        rows = [row | {"combine/task": 0.25, "combine/kd": 3.75} for row in rows]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = page(folders, tmp_path)
    assert not any("combine" in attrs["id"] for tag, attrs in plain.tags if tag == "figure")
    assert sum("combine" in attrs["id"] for tag, attrs in found.tags if tag == "figure") == 1
    assert any("task from 0.25" in words and "kd from 3.75" in words for words in found.words)


def test_every_drawing_has_a_text_alternative(study, tmp_path):
    found = page(study, tmp_path)
    ids = {attrs.get("id") for _, attrs in found.tags}
    drawings = [attrs for tag, attrs in found.tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(drawings) > 20
    assert all(attrs["aria-labelledby"] in ids for attrs in drawings)
    names = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(names) == len(set(names))


def test_no_coordinate_is_broken_whatever_the_runs_hold(tmp_path):
    folders = write_study(tmp_path / "runs", methods=("labels", "kd"), seeds=1)
    folders.append(write_run(tmp_path / "nan", "dkd", last_top1=float("nan"), ece=float("inf")))
    folders.append(write_run(tmp_path / "short", "gdkd", epochs=1, calibration=None))
    flat = write_run(tmp_path / "flat", "flat", epochs=3)
    rows = [{"epoch": e, "test_top1": 10.0, "component/task": 0.0} for e in (1, 2, 3)]
    rows[1] |= {"component/task": float("nan"), "gsnr/loss": float("inf")}
    (flat / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = page([*folders, flat], tmp_path)
    drawn = [v for tag, attrs in found.tags if tag in {"path", "line", "circle", "rect", "text"}
             for v in attrs.values()]  # fmt: skip
    assert len(drawn) > 500
    assert not [v for v in drawn if v is None or re.search(r"nan|inf", v)]


def test_columns_of_some_seeds_are_drawn_and_their_number_is_said(tmp_path):
    folders = write_study(tmp_path / "runs", methods=("labels", "kd"), seeds=3)
    for folder in folders:
        if not folder.name.endswith("-0"):
            rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            kept = [{k: v for k, v in row.items() if "gsnr" not in k} for row in rows]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in kept))
    found = page(folders, tmp_path)
    assert "Recorded for 1 of the 3 seeds." in found.text


def test_settings_get_a_section_each(tmp_path):
    folders = [write_run(tmp_path / f"{s}", "kd", 0, student=s) for s in ("small", "tiny")]
    found = page(folders, tmp_path)
    sections = [attrs["id"] for tag, attrs in found.tags if tag == "section" and "id" in attrs]
    assert sections == ["s1", "s2"]


def test_unfinished_runs_alone_give_a_page_that_says_so(tmp_path):
    found = page([write_run(tmp_path / "run", finished=False, epochs=2)], tmp_path)
    assert "No run has finished yet." in found.text
    assert "Unfinished, not counted: run , stopped after epoch 2." in found.text


def test_the_page_is_the_same_for_the_same_runs(study, tmp_path):
    first = write_page(study, tmp_path / "one.html").read_bytes()
    assert write_page(study, tmp_path / "two.html").read_bytes() == first


def test_a_failure_leaves_the_old_page_and_no_other_file(study, tmp_path, monkeypatch):
    out = write_page(study, tmp_path / "out" / "report.html")
    before = out.read_bytes()
    (study[0] / "summary.json").write_text("{")
    with pytest.raises(ValueError, match=r"summary\.json, line 1"):
        write_page(study, out)

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_page(study[1:], out)
    assert out.read_bytes() == before
    assert os.listdir(out.parent) == ["report.html"]


def test_the_room_imports_nothing_of_the_house_but_itself():
    folder = Path(fractionate.report.__file__).parent
    imported = set()
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module)
    heavy = {"torch", "numpy", "matplotlib", "scipy", "sklearn"}
    assert not heavy & {name.split(".")[0] for name in imported - {"scipy.special"}}
    house = {name for name in imported if name.startswith("fractionate")}
    assert all(
        n.removeprefix("fractionate.") in ("_choices", "_files", "_headlines", "_terminal")
        or n.startswith("fractionate.report.")
        for n in house
    )


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def schemes():
    light, dark = (TEMPLATES / "chart.css").read_text("utf-8").split("prefers-color-scheme: dark")
    return [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", half)) for half in (light, dark)]


@pytest.mark.parametrize("scheme", schemes(), ids=["light", "dark"])
def test_colours_keep_their_contrast_to_the_paper(scheme):
    """WCAG 2.2: 4.5 for text, 3 for lines and dots."""

    def contrast(name):
        a, b = sorted((luminance(scheme[name]), luminance(scheme["paper"])))
        return (b + 0.05) / (a + 0.05)

    assert all(contrast(name) >= 4.5 for name in ("ink", "quiet"))
    assert {f"c{i}": contrast(f"c{i}") for i in range(7) if contrast(f"c{i}") < 3} == {}


MACHADO = {  # dichromats, severity 1: Machado, Oliveira and Fernandes 2009, linear RGB
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def oklab(colours, eye):
    srgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(MACHADO[eye]).T, 0, 1)
    lms = seen @ np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]).T
    cones = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]
    return np.cbrt(lms) @ np.array(cones).T


@pytest.mark.parametrize("eye", MACHADO)
@pytest.mark.parametrize("scheme", schemes(), ids=["light", "dark"])
def test_hues_stay_apart_for_colour_blind_readers(scheme, eye):
    """Smallest distance in Oklab of any two line colours; 0.07 is what the Okabe-Ito palette keeps."""
    seen = oklab([scheme[f"c{i}"] for i in range(7)], eye)
    distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 9 * np.eye(7)
    assert distance.min() > 0.07
