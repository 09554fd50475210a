import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from fractionate.report import print_table, read_runs, table
from fractionate.report.groups import _difference
from fractionate.report.table import teachers
from fractionate.report.words import Estimate, paired_difference
from tests.report.synthetic import epoch_rows, write_run, write_study

accuracies = st.lists(st.floats(0, 100), min_size=2, max_size=12)


def summaries(folders, method):
    found = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    return [s for s in found if s["method"] == method]


@given(accuracies)
def test_mean_and_std_are_those_of_numpy_with_divisor_n_minus_1(values):
    estimate = Estimate(tuple(values))
    assert estimate.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert estimate.std == pytest.approx(np.std(values, ddof=1), abs=1e-9)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=12))
def test_the_interval_is_that_of_a_paired_t_test(pairs):
    ours, theirs = np.array(pairs).T
    found = paired_difference(list(ours), list(theirs))
    if np.std(ours - theirs) > 1e-6:
        interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
        assert found.low == pytest.approx(interval.low, rel=1e-6, abs=1e-6)
        assert found.high == pytest.approx(interval.high, rel=1e-6, abs=1e-6)


def test_verdicts_follow_the_sign_of_the_interval():
    assert paired_difference([3.0, 3.1, 3.2], [1.0, 1.0, 1.0]).verdict == "above"
    assert paired_difference([1.0, 1.1, 1.2], [3.0, 3.0, 3.0]).verdict == "below"
    assert paired_difference([1.0, 5.0, 3.0], [3.0, 1.0, 3.0]).verdict == "within"
    assert paired_difference([9.0], [1.0]).verdict == "unknown"
    assert paired_difference([9.0, math.nan], [1.0, 1.0]).verdict == "unknown"


def test_rows_equal_numpy_on_the_files(study):
    rows = {row.label: row for row in table(read_runs(study)).rows}
    baseline = summaries(study, "labels")
    for method in ("labels", "kd", "dkd+deepkd"):
        facts, row = summaries(study, method), rows[method]
        for name, estimate in (
            ("last_top1", row.last), ("best_top1", row.best), ("agreement", row.agreement),
            ("ece", row.ece),
        ):  # fmt: skip
            values = [s[name] for s in facts]
            assert estimate.mean == pytest.approx(np.mean(values))
            assert estimate.std == pytest.approx(np.std(values, ddof=1))
        gaps = [a["last_top1"] - b["last_top1"] for a, b in zip(facts, baseline, strict=True)]
        if method != "labels":
            assert row.difference.mean == pytest.approx(np.mean(gaps))
        assert (row.n, row.params, row.teacher_params) == (3, 2410, 61_706)
    assert rows["labels"].difference is None


def test_the_headline_accuracy_is_the_last_epoch_not_the_best(tmp_path):
    folder = write_run(tmp_path / "run", last_top1=70.0, best_top1=95.0)
    row = table(read_runs([folder])).rows[0]
    assert (row.last.mean, row.best.mean) == (70.0, 95.0)


def test_one_seed_has_no_std_anywhere(tmp_path):
    folders = write_study(tmp_path, seeds=1)
    assert all(row.last.std is None for row in table(read_runs(folders)).rows)
    out = io.StringIO()
    print_table(folders, Console(file=out, width=200))
    assert "±" not in out.getvalue().replace("mean ± sample std", "")


def test_unfinished_runs_are_named_and_not_counted(study, tmp_path):
    extra = write_run(tmp_path / "running", "dkd", seed=7, epochs=5, finished=False)
    out = io.StringIO()
    result = print_table([*study, extra], Console(file=out, width=200))
    assert [run.folder for run in result.unfinished] == [extra]
    assert {row.n for row in result.rows} == {3}
    assert f"Unfinished, not counted: {extra} (epoch 5)" in out.getvalue()


def test_pairs_are_matched_by_seed_not_by_position(tmp_path):
    folders = [write_run(tmp_path / f"l{s}", "labels", s, last_top1=80.0 + s) for s in (2, 0, 1)]
    folders += [write_run(tmp_path / f"k{s}", "kd", s, last_top1=85.0 + s) for s in (1, 2, 0, 9)]
    result = table(read_runs(folders))
    assert result.rows[1].difference.values == (5.0, 5.0, 5.0)
    assert "kd: only 3 of 4 seeds also exist for the baseline." in result.notes


def test_a_repeated_seed_is_refused_and_both_folders_are_named(tmp_path):
    folders = [write_run(tmp_path / name, "kd", seed=1) for name in ("one", "two")]
    with pytest.raises(ValueError, match=r"two: repeats seed 1 of kd in .*one"):
        table(read_runs(folders))


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(tmp_path):
    folders = write_study(tmp_path, methods=("dkd",), seeds=4)
    for folder in folders[2:]:
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace("beta: 8.0", "beta: 2.0"))
    labels = {row.label: row.n for row in table(read_runs(folders)).rows}
    assert labels == {"dkd (beta: 8.0)": 2, "dkd (beta: 2.0)": 2}


def test_settings_are_compared_with_their_own_baseline_only(tmp_path):
    folders = write_study(tmp_path / "a", methods=("labels", "kd"), seeds=2)
    folders += [
        write_run(tmp_path / f"{method}{seed}", method, seed, student="other", last_top1=top1)
        for method, top1 in (("kd", 50.0), ("dkd", 51.0))
        for seed in (0, 1)
    ]
    result = table(read_runs(folders))
    assert [row.label for row in result.rows if row.is_baseline] == ["labels", "kd"]
    assert list(result.settings) == ["synthetic · tiny", "synthetic · other"]
    assert result.settings["synthetic · other"][1].difference.mean == 1.0


def test_the_baseline_can_be_named_and_a_typo_names_the_nearest(study):
    runs = read_runs(study)
    assert table(runs, baseline="gdkd").rows[0].label == "gdkd"
    with pytest.raises(ValueError, match="did you mean 'gdkd'"):
        table(runs, baseline="gdkdd")


def test_seconds_leave_out_watched_runs(tmp_path):
    folders = [write_run(tmp_path / f"{s}", "kd", s, seconds=10.0 + s) for s in range(3)]
    for folder in folders[1:]:
        rows = [dict(row) for row in epoch_rows("kd", 1, 5)]
        kept = [{k: v for k, v in row.items() if "gsnr" not in k} for row in rows]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        (folder / "metrics.jsonl").write_text(text)
    result = table(read_runs(folders))
    assert result.rows[0].seconds.values == (11.0, 12.0)
    assert any("watched" in note for note in result.notes)


def test_a_quantity_some_seed_did_not_record_has_no_mean(tmp_path):
    folders = [write_run(tmp_path / "0", "kd", 0), write_run(tmp_path / "1", "kd", 1, ece=None)]
    assert table(read_runs(folders)).rows[0].ece is None


def test_a_diverged_run_spoils_its_mean_and_is_named(tmp_path):
    folders = [write_run(tmp_path / f"{s}", "kd", s, last_top1=math.nan if s else 90.0) for s in (0, 1)]
    result = table(read_runs(folders))
    assert math.isnan(result.rows[0].last.mean)
    assert any(note.startswith("kd: a run ended without") for note in result.notes)


def test_rows_with_other_epochs_or_teachers_are_pointed_out(tmp_path):
    folders = [write_run(tmp_path / "a", "kd", epochs=5), write_run(tmp_path / "b", epochs=9)]
    notes = table(read_runs(folders)).notes
    assert "The number of epochs differs between rows: 5 in kd; 9 in dkd." in notes


def test_two_teachers_of_one_name_are_told_by_their_scores(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"kd{seed}", "kd", seed, teacher_top1=98.0)
        write_run(tmp_path / f"dkd{seed}", "dkd", seed, teacher_top1=90.0)
    found = table(read_runs([tmp_path]))
    assert "Rows learnt from 2 teachers large: 98.00, 90.00 top-1." in found.notes
    assert [one.score.mean for one in teachers(found.rows)] == [98.0, 90.0]


def test_settings_besides_the_method_that_rows_do_not_share_are_pointed_out(tmp_path):
    for method, more in (("kd", "ema: null\n"), ("dkd", "ema: 0.99\n"), ("gdkd", "ema: null\ndevice: cpu\n")):
        config = write_run(tmp_path / method, method) / "config.yaml"
        config.write_text(config.read_text() + more)
    (note,) = table(read_runs([tmp_path])).notes
    assert note == "Rows differ in more than the method. ema: null in kd, gdkd; 0.99 in dkd."


def test_rows_that_differ_in_the_method_alone_have_no_note(study):
    assert table(read_runs(study)).notes == ()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_terminal_shows_every_number_at_any_width(study, width):
    out = io.StringIO()
    result = print_table(study, Console(file=out, width=width))
    text = out.getvalue()
    for row in result.rows:
        assert f"{row.last.mean:.2f} ± {row.last.std:.2f}" in text
        assert f"{100 * row.ece.mean:.1f} ± {100 * row.ece.std:.1f}" in text
    assert max(map(len, text.splitlines())) <= width


def test_the_teacher_s_own_run_is_named_but_is_no_row(tmp_path):
    write_run(tmp_path / "teacher", "labels", student="large", dataset="all of it")
    for folder in write_study(tmp_path / "runs", methods=("labels", "kd"), seeds=2):
        weights = tmp_path / "teacher" / "student.safetensors"
        config = (folder / "config.yaml").read_text().replace("teacher: large", f"teacher:\n  checkpoint: {weights}")
        (folder / "config.yaml").write_text(config)
    result = table(read_runs([tmp_path]))
    assert [row.label for row in result.rows] == ["labels", "kd"]
    assert "The run teacher trained the teacher; it is not one of the rows." in result.notes


def test_a_teacher_per_seed_is_averaged_and_two_teachers_of_one_seed_are_told_apart(tmp_path):
    for seed, weights in ((0, "a"), (1, "b"), (0, "b"), (1, "a")):
        folder = write_run(tmp_path / f"{len(list(tmp_path.iterdir()))}", "kd", seed)
        config = (folder / "config.yaml").read_text().replace("teacher: large", f"teacher:\n  checkpoint: {weights}")
        (folder / "config.yaml").write_text(config)
    assert [(row.label, row.n) for row in table(read_runs([tmp_path / "0", tmp_path / "1"])).rows] == [("kd", 2)]
    both = {row.label: row.n for row in table(read_runs([tmp_path])).rows}
    assert both == {"kd (checkpoint: a)": 2, "kd (checkpoint: b)": 2}


def test_runs_that_were_measured_on_other_pictures_are_told_apart(tmp_path):
    for seed, digests in ((0, ("a", "b", "a")), (1, ("c", "c", "c"))):  # a set may be cut by the seed
        for method, digest in zip(("kd", "dkd", "gdkd"), digests, strict=True):
            write_run(tmp_path / f"{method}{seed}", method, seed, made_of={"test": digest})
    (note,) = table(read_runs([tmp_path])).notes
    assert (
        note == "The test images of kd, gdkd and dkd are not the same: their difference may come from the images alone."
    )


def test_of_several_students_of_labels_alone_the_one_under_the_others_settings_is_compared_with(tmp_path):
    for name, method, mixup in (("a", "ce", 0.5), ("b", "ce", 0.0), ("c", "kd", 0.0), ("d", "dkd", 0.0)):
        for seed in (0, 1):
            folder = write_run(tmp_path / name / f"seed-{seed}", method, seed)
            (folder / "config.yaml").write_text(f"data:\n  mixup: {mixup}\n")
    found = table(read_runs([tmp_path]))
    assert [row.label for row in found.rows if row.is_baseline] == [found.rows[0].label]
    assert "mixup: 0.0" in found.rows[0].label
    assert {row.group.summaries[0].method for row in found.rows if row.difference is None} == {"ce"}


def test_a_variant_that_was_given_nothing_more_is_the_default_and_the_other_is_told_by_its_arguments():
    plain = frozenset({("method.args.warmup", "1")})
    more = plain | {("method.args.beta", "3.6"), ("method.args.weights", "auto")}
    assert [_difference(each, [plain, more]) for each in (plain, more)] == [
        " (defaults)",
        " (beta: 3.6, weights: auto)",
    ]
