"""Tables, charts and sentences name the headline of the folders: top-1, mIoU, AP, or whatever a task calls it."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from fractionate._headlines import HEADLINES, Headline
from fractionate.report import RunFolderError, print_table, read_runs, table, write_page
from fractionate.report.words import finding
from tests.report.synthetic import as_schema_1, write_run, write_study

KEPT = Path(__file__).parent / "schema0"  # written by version 0.1.0, before there was a schema


def printed(folders):
    out = io.StringIO()
    print_table(folders, Console(file=out, width=200))
    return " ".join(out.getvalue().split())


def test_a_folder_from_before_the_schema_is_still_read(tmp_path):
    (run,) = read_runs([KEPT])
    assert run.facts.headline.key == "top1"
    assert (run.facts.last, run.facts.best, run.facts.best_epoch) == (10.06711409395973, 10.06711409395973, 2)
    assert run.facts.teacher_last == 9.899328859060402
    assert run.column("test_top1") == {1: 9.731543624161073, 2: 10.06711409395973}
    assert run.settings["method.args"] == "{}"
    assert (run.settings["data.size"], run.settings["monitors.seeds.0"]) == ("null", "0")
    assert "kd: 10.07" in printed([KEPT])
    assert "test accuracy at the last epoch, %" in write_page([KEPT], tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize(("key", "label"), [("top1", "top-1"), ("miou", "mIoU"), ("ap", "AP"), ("pck", "pck")])
def test_table_and_page_name_the_headline_and_no_other(tmp_path, key, label):
    folders = [as_schema_1(folder, key) for folder in write_study(tmp_path / "runs", ("labels", "kd"), seeds=2)]
    page = write_page(folders, tmp_path / "page.html").read_text("utf-8")
    for text in (printed(folders), page):
        assert label in text
        others = {"top-1", "mIoU", "AP %", "AP,"} - {label, f"{label} %", f"{label},"}
        assert not [other for other in others if other in text]
    assert "curves" in page
    assert table(read_runs(folders)).rows[0].last.values == tuple(
        run.column(f"test_{key}")[40] for run in read_runs(folders) if run.facts.method == "labels"
    )


def test_the_numbers_do_not_depend_on_the_headline_s_name(tmp_path):
    old = write_study(tmp_path / "old", ("labels", "kd"), seeds=2)
    new = [as_schema_1(f, "top1") for f in write_study(tmp_path / "new", ("labels", "kd"), seeds=2)]
    one, two = (write_page(folders, tmp_path / "page.html").read_text("utf-8") for folders in (old, new))
    assert one == two


def test_runs_of_two_headlines_stand_in_two_tables(tmp_path):
    folders = write_study(tmp_path / "a", ("labels", "kd"), seeds=2)
    folders += [as_schema_1(f, "miou") for f in write_study(tmp_path / "b", ("labels", "kd"), seeds=2)]
    settings = table(read_runs(folders)).settings
    assert [[row.label for row in rows] for rows in settings.values()] == [["labels", "kd"]] * 2
    assert [name.rsplit(" · ", 1)[1] for name in settings] == ["top-1", "mIoU"]


def test_a_metric_of_which_less_is_better_is_judged_so(tmp_path, monkeypatch):
    monkeypatch.setitem(HEADLINES, "error", Headline("error", "error", "error", higher=False))
    last = {"labels": (20.0, 20.2), "kd": (15.0, 15.3), "dkd": (25.0, 25.3)}
    folders = [
        as_schema_1(write_run(tmp_path / f"{method}{seed}", method, seed, 2, last_top1=values[seed]), "error")
        for method, values in last.items()
        for seed in (0, 1)
    ]
    sentences = " ".join(finding(table(read_runs(folders)).rows))
    assert "kd gains most over labels: −4.95 points" in sentences
    assert "kd has the lowest mean" in sentences


def test_a_folder_of_a_newer_schema_is_refused_with_what_to_do(tmp_path):
    folder = write_run(tmp_path / "run", schema=2, headline="top1")
    with pytest.raises(RunFolderError, match=r"schema 2.*update"):
        read_runs([folder])


def test_a_schema_without_a_headline_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="'headline' is missing"):
        read_runs([write_run(tmp_path / "run", schema=1)])


def with_cosine(folder, minimum="0.0"):
    config = folder / "config.yaml"
    config.write_text(config.read_text() + f"learning_rate:\n  schedule: cosine\n  minimum: {minimum}\n")
    return folder


@pytest.mark.parametrize(("minimum", "said"), [("0.0", True), ("0.01", False)])
def test_a_table_says_which_rows_had_the_cosine_of_older_releases(tmp_path, minimum, said):
    old = [with_cosine(f, minimum) for f in write_study(tmp_path / "old", ("labels",), seeds=2)]
    new = [with_cosine(as_schema_1(f, "top1"), minimum) for f in write_study(tmp_path / "new", ("kd",), seeds=2)]
    assert "cosine" not in printed(old)
    assert "cosine" not in printed(new)
    assert ("so it was in labels, and not in kd" in printed(old + new)) is said
