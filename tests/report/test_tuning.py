"""The page of a search, on numbers made up here: what it says of the winner, and what is on the front."""

from __future__ import annotations

from pathlib import Path

import pytest

from fractionate.report.tuning import Arm, Try, Tuning, pareto, sentences, write_tuning
from tests.report.test_page import HOSTILE, Page

KD = Arm("kd", (90.0, 91.0, 92.0), 2.0)


def tuning(*arms: Arm, usual: str = "kd", tries: tuple[Try, ...] = ()) -> Tuning:
    return Tuning(
        "Tuned: digits", "top1", "kd", tries, arms, usual, (("data", "digits"),), "runs/x", "fractionate tune"
    )


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (
            (92.0, 93.1, 93.9),
            "best ends above kd by more than the spread of 3 fresh seeds: +2.00 [+1.75, +2.25] p",
        ),
        ((88.0, 89.1, 89.9), "best ends below kd by more than the spread of 3 fresh seeds: −2.00"),
        ((91.0, 92.0, 93.0), "3 fresh seeds that all differ by +1.00 points cannot tell best from kd."),
        ((90.5, 90.5, 92.5), "best cannot be told from kd by 3 fresh seeds: +0.17 ["),
    ],
)
def test_the_first_sentence_judges_the_winner_by_the_paired_interval(scores: tuple[float, ...], says: str) -> None:
    assert sentences(tuning(Arm("best", scores, 2.0), KD))[0].startswith(says)


def test_not_told_apart_is_not_called_equal() -> None:
    told = sentences(tuning(Arm("best", (90.5, 90.5, 92.5), 2.0), KD))
    assert "do not prove the two equal" in told[1]


def test_a_winner_that_nobody_tuned_is_called_so() -> None:
    told = sentences(tuning(Arm("dkd", (92.0, 93.1, 93.9), 2.0), KD, usual="dkd"))
    assert any("published method as it comes: nothing that was tuned" in sentence for sentence in told)


def test_kd_itself_as_the_winner_is_said() -> None:
    assert sentences(tuning(KD))[0] == "The search found nothing better than kd itself."


def test_the_best_published_method_is_compared_with_too() -> None:
    winner, usual = Arm("best", (92.0, 93.1, 93.9), 2.0), Arm("dkd", (91.0, 92.1, 92.8), 2.0)
    told = sentences(tuning(winner, KD, usual, usual="dkd"))
    assert told[1].startswith("best ends above the best published method as it comes (dkd) by more than the spread")


def test_only_whole_students_that_no_faster_one_equals_are_on_the_front() -> None:
    tries = (
        Try("slow and good", False, 93.0, 9, 8.0, True),
        Try("fast", True, 90.0, 9, 2.0, True),
        Try("slow and bad", True, 89.0, 9, 9.0, True),
        Try("left behind", False, 99.0, 1, 0.5, False),
        Try("failed", False, None, 0, 0.0, False, fault="it diverged"),
    )
    assert [t.label for t in pareto(tries)] == ["fast", "slow and good"]


def test_what_stands_without_its_control_is_marked_in_every_table_and_said_of_the_winner(tmp_path: Path) -> None:
    winner = Arm("kd+dot", (90.5, 90.5, 92.5), 2.0, uncontrolled=True)
    tries = (Try("kd+dot", True, 91.0, 9, 2.0, True, uncontrolled=True), Try("kd", True, 90.0, 9, 1.0, True))
    tries += (Try("dkd+deepkd", True, 80.0, 3, 1.0, False, uncontrolled=True),)
    page = write_tuning(tuning(winner, KD, tries=tries), tmp_path / "tune.html").read_text("utf-8")
    assert page.count("<small>without its control</small>") == 4  # confirmed, the front, and two of those tried
    assert "Without their controls: kd+dot, dkd+deepkd." in page
    assert any(s.startswith("Without its control: kd+dot.") for s in sentences(tuning(winner, KD)))
    assert not any("control" in s for s in sentences(tuning(KD, winner)))


def test_of_records_that_say_nothing_of_controls_nothing_is_said(tmp_path: Path) -> None:
    found = tuning(Arm("kd+dot", (90.5, 90.5, 92.5), 2.0), KD, tries=(Try("kd+dot", True, 91.0, 9, 2.0, True),))
    assert "ithout its control" not in write_tuning(found, tmp_path / "tune.html").read_text("utf-8")


def test_hostile_words_stay_text_and_the_page_is_closed_in_order(tmp_path: Path) -> None:
    tries = (Try(HOSTILE, True, 90.0, 9, 2.0, True, (91.0,)), Try("b", False, None, 0, 0.0, False, fault=HOSTILE))
    page = write_tuning(tuning(Arm(HOSTILE, (90.5, 90.5, 92.5), 2.0), KD, tries=tries), tmp_path / "tune.html")
    found = Page(page.read_text("utf-8"))
    assert not {"script", "img"} & {tag for tag, _ in found.tags}
    assert "All that was tried" in found.text
