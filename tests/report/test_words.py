import math

import pytest

from fractionate.report import read_runs, table
from fractionate.report.study import Answer
from fractionate.report.words import finding, paired_difference
from tests.report.synthetic import write_run


def sentences(tmp_path, teacher_top1=98.7, **finals):
    """The finding for methods with given accuracies, one per seed."""
    folders = [
        write_run(tmp_path / f"{method}{seed}", method, seed, 2, last_top1=top1, teacher_top1=teacher_top1)
        for method, values in finals.items()
        for seed, top1 in enumerate(values)
    ]
    return finding(table(read_runs(folders)).rows)


def test_the_headline_claims_only_what_exceeds_the_spread(tmp_path):
    found = sentences(tmp_path, labels=[80.0, 80.2, 80.1], kd=[85.0, 85.3, 85.2], dkd=[80.0, 83.0, 78.0])
    assert found[0] == "kd ends above labels by more than the seeds’ spread; dkd stays within it."


def test_losses_are_told_as_plainly_as_gains(tmp_path):
    found = sentences(tmp_path, labels=[80.0, 80.2, 80.1], kd=[75.0, 75.3, 75.2])
    assert found[0] == "kd ends below labels by more than the seeds’ spread."
    assert found[1] == "No method has a higher mean than labels at the last epoch."


def test_nothing_is_claimed_when_nothing_exceeds_the_spread(tmp_path):
    found = sentences(tmp_path, labels=[80.0, 82.0, 81.0], kd=[81.0, 80.5, 82.0])
    assert found[0] == "kd cannot be told from labels by the seeds at hand."


def test_one_seed_claims_no_difference(tmp_path):
    found = sentences(tmp_path, labels=[80.0], kd=[99.0])
    assert found[0] == "The seeds at hand give no spread by which to judge a difference to labels."
    assert "from one seed" in found[1]


def test_who_leads_is_not_said_of_rows_that_cannot_be_judged(tmp_path):
    found = sentences(tmp_path, labels=[80.0, 80.2, 80.1], kd=[90.0, 90.3, 90.2], gdkd=[97.0])
    assert found[-1].startswith("Of the rows with common seeds kd has the highest mean (90.17")
    assert found[-1].endswith("its lead over labels exceeds the seeds’ spread; gdkd cannot be judged.")


def test_seeds_that_differ_by_the_same_amount_give_no_spread_to_judge_by(tmp_path):
    found = sentences(tmp_path, labels=[80.1, 80.3], kd=[81.4, 81.6])
    assert found[0] == "The seeds at hand give no spread by which to judge a difference to labels."
    assert "+1.30 points at the last epoch, the same for all 2 seeds" in found[1]


def test_a_method_that_is_the_baseline_in_all_seeds_is_within_its_spread():
    same = paired_difference([80.0, 81.0], [80.0, 81.0])
    assert (same.low, same.high, same.verdict) == (0.0, 0.0, "within")
    assert paired_difference([80.1, 80.4, 80.3], [80.0, 80.3, 80.2]).verdict == "unknown"
    assert paired_difference([80.1, 80.401], [80.0, 80.3]).low is not None


def test_all_is_said_of_all_and_of_no_fewer(tmp_path):
    found = sentences(tmp_path, labels=[80.0, 80.1], kd=[85.0, 85.12], dkd=[86.0, 86.11], gdkd=[87.0, 87.12])
    assert found[0] == "All 3 methods end above labels by more than the seeds’ spread."


def test_the_leader_is_told_apart_from_those_it_does_not_beat(tmp_path):
    found = sentences(tmp_path, labels=[80.0, 80.2, 80.1], kd=[90.0, 90.3, 90.2], dkd=[90.2, 90.2, 90.3])
    assert found[-1].startswith("dkd has the highest mean (90.23")
    assert found[-1].endswith("exceeds the seeds’ spread over labels, not over kd.")


@pytest.mark.parametrize("method", ["kd", "dkd+deepkd"])
def test_a_method_alone_is_told_without_comparison(tmp_path, method):
    found = sentences(tmp_path, **{method: [90.0, 91.0]})
    assert found == [f"{method}: 90.50 ± 0.71\N{NO-BREAK SPACE}% top-1 at the last epoch (2 seeds)."]


def test_a_teacher_behind_a_student_without_one_is_spoken_of(tmp_path):
    finals = {"labels": [80.0, 80.2, 80.1], "kd": [81.0, 81.3, 81.2]}
    behind = sentences(tmp_path / "behind", teacher_top1=79.0, **finals)
    assert behind[-1].startswith(
        "The teacher (79.00\N{NO-BREAK SPACE}%) is not ahead of labels (80.10\N{NO-BREAK SPACE}%): "
    )
    ahead = sentences(tmp_path / "ahead", teacher_top1=81.0, **finals)
    assert behind[:-1] == ahead
    assert not [
        s for s in sentences(tmp_path / "kd", teacher_top1=79.0, kd=[81.0, 81.1], dkd=[82.0, 82.1]) if "teacher" in s
    ]


def test_what_was_not_measured_is_not_told_as_a_difference() -> None:
    gaps = paired_difference([math.nan], [math.nan])
    said = Answer("the ratio of target", "that of task", gaps, "").sentence
    assert said == "the ratio of target and that of task cannot be judged: not measured, maybe in too short a run"
