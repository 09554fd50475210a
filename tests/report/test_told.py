"""What a report says in words and figures, on numbers made up here: each sentence where it is true, and no other."""

import json
import math
import re
from dataclasses import replace

import pytest

from fractionate.report import read_runs, table
from fractionate.report import words as told
from fractionate.report.examples import CHANGES, Examples, _most, _of_teacher, _share, _sizes
from fractionate.report.groups import Group, choose_baselines
from fractionate.report.observed import (
    each_window_once,
    last_seen,
    layer_figure,
    order_seen,
    range_seen,
    rank_figure,
    teacher_figure,
)
from fractionate.report.page import _facts, _places, changes
from fractionate.report.panels import Series, late_range
from fractionate.report.study import Answer, StudyArm, _pilot
from fractionate.report.weights import Sureness, Weight, lines, sureness_of, weights_of
from fractionate.report.words import Difference, Estimate, finding, listing, number, paired_difference, spread
from tests.report.synthetic import write_run

MINUS = "\N{MINUS SIGN}"


def rows_of(tmp_path, finals, **more):
    """Rows of methods with given accuracies, one per seed."""
    folders = [
        write_run(tmp_path / f"{method}{seed}", method, seed, 2, last_top1=top1, **more)
        for method, scores in finals.items()
        for seed, top1 in enumerate(scores)
    ]
    return table(read_runs(folders)).rows


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((1234.5,), "1,234.50"),
        ((0.001, 2, True), "0.00"),
        ((-0.001,), "0.00"),
        ((-1.0, 0, True), f"{MINUS}1"),
        ((0.09, 1), "0.1"),
        ((math.inf,), "not finite"),
        ((math.nan, 2, True), "not finite"),
    ],
)
def test_a_number_has_its_digits_and_its_sign(given, words):
    assert number(*given) == words


def test_mean_and_deviation_are_scaled_alike():
    assert spread(Estimate((0.01, 0.03)), 1, 100) == "2.0 ± 1.4"
    assert spread(Estimate((1.0, math.nan))) == "not finite"
    assert math.isnan(Estimate((1.0, math.inf)).std)
    assert told.gap(Difference((1.0, 2.0), -0.5, 3.5)) == f"+1.50 [{MINUS}0.50, +3.50]"
    assert told.gap(Difference((1.0,), None, None)) == "+1.00"


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.0, 1.0, "within"), (-1.0, 0.0, "within"), (1e-9, 1.0, "above")]
)
def test_an_interval_that_ends_at_zero_does_not_exclude_it(low, high, verdict):
    assert Difference((0.5, 0.5), low, high).verdict == verdict
    assert Difference((0.5,), None, high).verdict == Difference((0.5,), low, None).verdict == "unknown"


def test_pairs_of_two_lengths_or_none_are_refused():
    for pair in (([], []), ([1.0], [1.0, 2.0]), ([1.0, 2.0], [])):
        with pytest.raises(ValueError, match="same positive length"):
            paired_difference(*pair)


def test_a_long_list_names_ten_and_counts_the_rest():
    names = [f"m{i}" for i in range(13)]
    assert listing(names[:12]) == ", ".join(names[:11]) + " and m11"
    assert listing(names) == ", ".join(names[:10]) + " and 3 more"
    assert [listing(names[:n]) for n in (0, 1, 2)] == ["", "m0", "m0 and m1"]


@pytest.mark.parametrize(
    ("finals", "sentences"),
    [
        (
            {"labels": [80.0, 80.2], "kd": [85.0, 85.3], "dkd": [90.0, 90.31]},
            ["kd and dkd end above labels by", "dkd gains most over labels: +10.05", "every other row exceeds"],
        ),
        (
            {"labels": [80.0, 80.2, 80.1], "kd": [79.9, 80.5, 80.3], "dkd": [60.0, 60.3, 60.1]},
            [
                "dkd ends below labels by more than the seeds’ spread; kd stays within it.",
                "which includes zero",
                "kd has",
            ],
        ),
        (
            {"labels": [80.0, 80.2], "kd": [85.0, 85.3], "dkd": [81.0]},
            [
                "kd ends above labels by more than the seeds’ spread; dkd cannot be judged by the seeds at hand.",
                "kd",
                "k",
            ],
        ),
        (
            {"labels": [80.0, 82.0, 81.0], "kd": [81.0, 80.5, 82.2], "dkd": [81.0, 80.7, 82.1]},
            ["kd and dkd cannot be told from labels by", "dkd gains most over labels: +0.27", "labels stays within"],
        ),
    ],
)
def test_the_finding_says_who_is_ahead_and_of_whom(tmp_path, finals, sentences):
    found = finding(rows_of(tmp_path, finals))
    assert len(found) == 3
    assert all(words in sentence for words, sentence in zip(sentences, found, strict=True)), found


def test_one_method_beside_its_baseline_gains_and_not_most(tmp_path):
    found = finding(rows_of(tmp_path, {"labels": [80.0, 80.2, 80.1], "kd": [85.0, 85.2, 85.2]}))
    assert found[1].startswith("kd gains over labels: +5.03 points at the last epoch (95")
    assert found[1].endswith("; paired over 3 seeds).")
    assert found[2].startswith("kd has the highest mean (85.13\N{NO-BREAK SPACE}%); its lead over every other row")


def test_a_mean_that_equals_the_baseline_s_is_not_higher_and_one_seed_is_no_leader(tmp_path):
    found = finding(rows_of(tmp_path, {"labels": [80.0], "kd": [80.0]}))
    assert found[1] == "No method has a higher mean than labels at the last epoch."
    assert len(found) == 2


def test_rows_alone_say_their_seeds_and_whether_they_ended(tmp_path):
    assert finding(rows_of(tmp_path / "a", {"kd": [80.0]}))[0].endswith("at the last epoch (1 seed).")
    assert "without a finite accuracy" in finding(rows_of(tmp_path / "b", {"kd": [80.0, math.nan]}))[0]


def lines_of(**points):
    return [Series(name, "k1", 1, tuple(enumerate(values, start=1)), (), ()) for name, values in points.items()]


def test_sentences_of_curves_say_what_is_drawn(tmp_path):
    (row,) = rows_of(tmp_path, {"kd": [80.0]})
    lines = lines_of(a=(1.0, 5.0, 9.0), b=(2.0, 4.0, math.nan))
    assert order_seen([(row, lines_of(a=(1.0, 5.0), b=(0.5, 4.0)))]) == " Seen here: kd, a above b in 2 of 2 epochs."
    assert order_seen([(row, lines[:1])]) == ""
    assert range_seen([(row, lines)]) == " Seen here: kd, from 1.00 (a) to 9.00."
    assert last_seen([(row, lines)]) == " Seen here: the largest is in kd, a with 9.00 at the last epoch."
    assert last_seen([(row, lines_of(a=(1.0, 2.0), b=(9.0, 3.0)))]).count("b with 3.00") == 1
    assert order_seen([(row, lines)] * 6).count("kd, no order") == 4
    shifted = [lines[0], Series("late", "k2", 1, ((2, 7.0), (3, 9.5), (4, 1.0)), (), ())]
    assert order_seen([(row, shifted)]) == " Seen here: kd, late above a in 2 of 2 epochs."


@pytest.mark.parametrize(
    ("a", "c", "said"),
    [
        ((3, 3, 3, 1), (1, 1, 1, 99), "a above b above c in 3 of 4 windows"),  # though c has the largest mean
        ((3, 3, 1, 2), (1, 1, 9, 1), "no order dominates: most often a above b above c, in 2 of 4 windows"),
        ((3, 3, 1, 1), (1, 1, 9, 9), "no order dominates: 2 orders, none in more than 2 of 4 windows"),
        ((3,), (1,), "a above b above c in the only window"),
    ],
)
def test_the_order_that_is_named_is_the_one_seen_most_often(tmp_path, a, c, said):
    (row,) = rows_of(tmp_path, {"kd": [80.0]})
    b = (2.0, 2.0, 2.0, 2.5)[: len(a)]
    assert order_seen([(row, lines_of(a=a, b=b, c=c))], "window") == f" Seen here: kd, {said}."


@pytest.mark.parametrize(("steps", "window"), [(10, 20), (10, 50), (10, 15), (10, 25), (10, 10), (25, 10)])
def test_a_folder_that_repeats_a_window_until_the_next_has_it_once(steps, window):
    """As runs were recorded that told the last full window at every epoch's end, and before it the one begun."""
    full = [epoch * steps // window for epoch in range(1, 31)]
    told = lines_of(a=[n or -1 / e for e, n in enumerate(full, 1)], b=[0.0] * 30)
    once = each_window_once(told)
    ended = [(epoch, float(n)) for epoch, n in enumerate(full, 1) if n > (full[epoch - 2] if epoch > 1 else 0)]
    assert list(once[0].mean) == ended
    assert [e for e, _ in once[1].mean] == [e for e, _ in ended]
    assert each_window_once(once) == once


def test_a_ratio_that_never_changes_is_one_window():
    (line,) = each_window_once(lines_of(a=[0.0] * 3))
    assert len(line.mean) == 1


def with_columns(tmp_path, **columns):
    folder = write_run(tmp_path / "kd", "kd", 0, 2)
    rows = [{"epoch": e, "test_top1": 50.0, **{k: v * e for k, v in columns.items()}} for e in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return table(read_runs([folder])).rows


def test_layers_and_ranks_are_drawn_per_stream_and_the_largest_is_named(tmp_path):
    columns = {"layer/conv|task": 1.0, "layer/fc|task": 3.0, "layer/conv|kd": 2.0}
    columns |= {"rank/task|1": 6.0, "rank/task|2": 2.0, "rank/task|10": 1.5, "rank/task|x": 9.0, "rank/kd|1": 0.0}
    rows = with_columns(tmp_path, **columns)
    layers = layer_figure(rows, ["k1", "k2"])
    assert [panel.title for panel in layers.panels] == ["kd: task", "kd: kd"]
    assert layers.caption.endswith("in kd, task: fc; kd, kd: conv.")
    assert layers.legend == (("conv", "k1"), ("fc", "k2"))
    ranks = rank_figure(rows, {"task": "k3"})
    assert ranks.caption.endswith("rank 1 receives, against the last ranks, in kd, task 4.0 times as much.")
    (panel,) = ranks.panels
    assert "task from 12.000 in teacher’s rank 1 to 3.000 in teacher’s rank 10" in panel.summary
    assert (panel.frame.x.low, panel.frame.x.high, panel.frame.x.log) == (1, 10, True)
    assert layer_figure(rows_of(tmp_path / "none", {"kd": [1.0]}), ["k1"]) is None


FACTS = {"images": 5, "label": 0.9, "label_soft": 0.4, "temperature": 4.0, "modes": 1.5, "classes": 100}
SPREAD = {"label": [0.1, 0.5, 1.0], "label_soft": [0.0, 0.2, 0.4], "modes": [1.0, 3.0, 9.0]}


@pytest.mark.parametrize(("temperature", "lines"), [(4.0, 2), (1.0, 1)])
def test_the_teacher_s_answers_are_drawn_sorted_over_the_share_of_images(tmp_path, temperature, lines):
    facts = FACTS | {"temperature": temperature, "spread": SPREAD}
    figure = teacher_figure(rows_of(tmp_path, {"kd": [1.0]}, teacher_facts=facts), ("k1", "k2", "k3"))
    sure, modes = figure.panels
    assert len([m for m in sure.plot if m.attributes["class"].startswith("line")]) == len(figure.legend) == lines
    assert "T 1 from 0.100 in % of the images 0 to 1.000 in % of the images 100" in sure.summary
    assert (sure.frame.x.low, sure.frame.x.high, sure.frame.y.low, sure.frame.y.high) == (0, 100, 0, 1)
    assert (modes.frame.y.low, modes.frame.y.high) == (1, 9.0)
    assert "the medians: 0.500 at T 1" in figure.caption
    assert "for the label, 3.0 of 100 classes considered" in figure.caption


def test_a_teacher_s_confidence_at_one_temperature_is_said_once():
    warm, cold = sureness_of(FACTS), sureness_of(FACTS | {"temperature": 1.0})
    assert str(warm).startswith("0.900 at T 1, 0.400 at T 4, the label's mean probability on 5 training images")
    assert str(cold).startswith("0.900 at T 1, the label's")
    assert str(cold).endswith("1.50 of 100 classes considered")
    assert warm == Sureness(5, 0.9, 0.4, 4.0, 1.5, 100)
    assert sureness_of(FACTS | {"spread": SPREAD}).spread == {k: tuple(v) for k, v in SPREAD.items()}


def test_an_effective_weight_is_weight_times_gain_and_the_base_is_shown_where_it_is_another():
    raw = {
        "components": {
            "a": {"weight": 2.0, "gain": 10.0, "base": 20.0},
            "b": {"weight": 3.0, "gain": 10.0, "base": 0.0},
        },
        "decay": {"in": None, "gain": 1.0, "base": 1.0},
    }
    found = weights_of(raw)
    assert [w.value for w in found.components] == [20.0, 30.0]
    assert (found.components[0].ratio, found.components[1].ratio) == (1.0, math.inf)
    assert Weight("a", 3.0, 2.0).ratio == 1.5
    (line,) = lines([("x", found)])
    assert line.cells == (("a", "20"), ("b", "30 (base 0)"))
    assert (line.decay, line.warning) == ("x 1, decoupled", None)
    close = replace(found, components=(Weight("a", 1e3 + 5e-4, 1e3), Weight("b", 1e3 + 5e-3, 1e3)))
    assert [c[1] for c in lines([("x", close)])[0].cells] == ["1e+03", "1e+03 (base 1e+03)"]


def answer(ours, theirs, of="points"):
    return Answer("a", "b", paired_difference(ours, theirs), of)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (answer([3.0, 3.1, 3.2], [1.0, 1.0, 1.0]), "a ends above b: +2.10 ["),
        (answer([1.0, 1.1, 1.2], [3.0, 3.0, 3.0]), "a ends below b: −1.90 ["),
        (answer([1.0, 5.0, 3.0], [3.0, 1.0, 3.0]), "a and b cannot be told apart: +0.67 ["),
        (answer([9.0], [1.0]), "a and b cannot be judged by one seed: +8.00 points"),
        (answer([0.25], [0.125], ""), "a and b cannot be judged by one seed: +0.1250"),
        (answer([2.0], [1.0], ""), "a and b cannot be judged by one seed: +1.00"),
        (answer([0.5], [0.25]), "a and b cannot be judged by one seed: +0.25 points"),
        (answer([2.5, 1.5], [1.5, 0.5]), "a and b cannot be judged by 2 seeds that differ by the same: +1.00 points"),
    ],
)
def test_a_study_s_answer_has_the_words_of_its_interval_and_digits_of_its_size(one, words):
    assert one.sentence.startswith(words)


@pytest.mark.parametrize(
    ("whole", "part", "words"),
    [("2", "2", "the same value"), ("4", "2", "one step of the grid apart"), ("1", "4", "2 steps apart")],
)
def test_two_choices_are_told_apart_in_steps_of_the_grid(whole, part, words):
    tried = {value: Estimate((1.0,)) for value in ("1", "2", "4")}
    arm = StudyArm("a", "kd", (), "", 1, 1.0, whole, 1.0, tried, {}, (), None)
    said = f"20 % of the training images choose {part}, all of them {whole}: {words}."
    assert _pilot(arm, replace(arm, value=part, pilot=0.2)) == said


def test_a_baseline_is_labels_alone_else_kd_else_the_first_and_never_alone():
    def of(*labels):
        found = choose_baselines([Group(label, "digits", ()) for label in labels], None)
        return found["digits"].label if found else None

    assert of("dkd", "kd", "ce") == "ce"
    assert of("dkd", "kd") == "kd"
    assert of("gdkd", "dkd") == "gdkd"
    assert of("none", "labels") == "labels"
    assert of("kd") is None


@pytest.mark.parametrize(
    ("configs", "labels"),
    [
        ((("alpha", "2.0"),), ["kd (alpha: 1.0)", "kd (alpha: 2.0)"]),
        (
            (("alpha", "2.0"), ("beta", "2.0"), ("lr", "1")),
            ["kd (lr: 0.05, alpha: 1.0, beta: 8.0)", "kd (lr: 1, alpha: 2.0, beta: 2.0)"],
        ),
        (
            (("alpha", "2.0"), ("beta", "2.0"), ("lr", "1"), ("epochs", "3")),
            ["kd (epochs: 40, lr: 0.05, alpha: 1.0, ...)", "kd (epochs: 3, lr: 1, alpha: 2.0, ...)"],
        ),
    ],
)
def test_two_configs_of_a_method_are_told_apart_by_at_most_three_settings(tmp_path, configs, labels):
    folders = [write_run(tmp_path / str(i), "kd", i, 2) for i in (0, 1)]
    config = folders[1] / "config.yaml"
    text = config.read_text()
    for name, value in configs:
        text = re.sub(rf"(\b{name}: )\S+", rf"\g<1>{value}", text)
    config.write_text(text)
    assert [row.label for row in table(read_runs(folders)).rows] == labels


def test_what_differs_between_runs_is_told_by_field(tmp_path):
    for seed in (0, 1):
        config = write_run(tmp_path / str(seed), "kd", seed, 2) / "config.yaml"
        config.write_text(config.read_text() + ("ema: 0.9\n" if seed else "old: 1\n"))
    runs = read_runs([tmp_path])
    assert changes(runs) == ["seed 1  seed: 0 → 1, old: 1 → absent, ema: absent → 0.9"]
    assert changes([runs[0], runs[0]]) == ["seed 0  nothing"]


def test_the_first_facts_of_a_page_are_those_of_its_runs(tmp_path):
    rows = rows_of(tmp_path, {"labels": [80.0, 81.0], "kd": [85.0]}, teacher_facts=FACTS)
    facts = dict(_facts(rows))
    assert facts["student"] == "tiny, 2,410 parameters"
    assert facts["teacher"] == "large, 61,706 parameters, 98.70\N{NO-BREAK SPACE}%"
    assert (facts["seeds per method"], facts["epochs"], facts["data"]) == ("1 to 2", "2", "synthetic")
    assert facts["teacher’s confidence"].startswith("0.900 at T 1")
    assert dict(_facts(rows[:1]))["seeds per method"] == "2"
    sizes = rows_of(tmp_path / "other", {"kd": [1.0]}, params=1) + rows_of(tmp_path / "more", {"dkd": [1.0]}, params=2)
    assert "student" not in dict(_facts(sizes))


def test_folders_are_told_from_the_one_that_they_share(tmp_path):
    folders = [write_run(tmp_path / name / "seed-0", name, 0, 2) for name in ("kd", "dkd")]
    assert list(_places(table(read_runs(folders))).values()) == ["kd/seed-0", "dkd/seed-0"]
    assert list(_places(table(read_runs(folders[:1]))).values()) == ["seed-0"]


def test_the_first_quarter_of_a_curve_may_lie_below_its_axis():
    low, high = late_range(lines_of(a=(0.0, 10.0, 20.0, 90.0, 91.0, 92.0, 93.0, 94.0)))
    assert low < 10.0 < high
    points = tuple((e, 10.0 * (e - 1)) for e in range(1, 9))  # the first quarter ends at epoch 2
    assert late_range([Series("a", "k1", 1, points, (), ())])[0] == pytest.approx(-4.2)


def examples(student, teacher=None, count=(10, 20, 0, 5)):
    names = tuple("abcd"[: len(count)])
    return Examples(names, count, student, teacher, (), None, (2.0, 3.0), "cpu")


def test_shares_of_classes_are_in_percent_over_all_seeds():
    two = [examples((5, 20, 0, 1), (10, 10, 0, 5)), examples((7, 10, 0, 2), (10, 10, 0, 5))]
    assert _share(two) == [60.0, 75.0, 0.0, 30.0]
    assert _of_teacher(two) == [100.0, 50.0, 0.0, 100.0]
    one = [examples((1,), (1,), count=(1,))]
    assert _share(one) == _of_teacher(one) == [100.0]


def test_the_classes_that_gained_and_lost_most_come_first_and_last():
    count = tuple(range(1, 14))
    names = tuple("abcdefghijklm")
    one = Examples(names, count, count, None, (), None, (None, None), "cpu")
    after = [50.0 + points for points in (3, 1, 6, 2, 4, 5, 0, -1, -6, -2, -5, -3, -4)]
    found = _most(one, [50.0] * 13, after)
    assert [c.name for c in found] == ["c", "f", "e", "a", "d", "j", "l", "m", "k", "i"]
    assert CHANGES == 5
    assert (found[0].images, found[0].before, found[0].after, found[0].points) == (3, 50.0, 56.0, 6.0)


def test_the_table_of_sizes_has_the_student_s_mean_and_the_teacher_s_share(tmp_path):
    (row,) = rows_of(tmp_path, {"kd": [80.0, 82.0]})
    student, teacher = _sizes(row, examples((5, 20, 0, 1), (10, 10, 0, 1)))
    assert student == ("student", "tiny", 81.0, 2410, 2.0)
    assert teacher == ("teacher", "large", 60.0, 61_706, 3.0)
    assert _sizes(row, examples((5, 20, 0, 1))) == (student,)
