"""Write docs/studies.md from the records of finished studies: python docs/studies.py

Records lie in benchmarks/results/studies/NAME.json; `python -m benchmarks.keep --record runs/NAME` puts them there.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fractionate._headlines import headline
from fractionate.report import StudyRecord, read_study
from fractionate.report.words import gap, number, spread
from fractionate.studies.plan import cost
from fractionate.studies.questions import STUDIES

sys.path.insert(0, str(Path(__file__).parent))
from dense_results import NOTES

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "studies.md"
RECORDS = ROOT / "benchmarks" / "results" / "studies"
VERDICTS = {"within": "cannot be told apart", "unknown": "one seed"}

HEAD = """# Studies

A study is a question, the runs that answer it, and a page with the answer. `fractionate study` lists them;
`fractionate study NAME` trains what is missing and writes `runs/NAME/report.html`. Each is small by default, so that a
CPU answers it in minutes to hours; `--full` takes the networks, images and epochs of the recipe `cifar100`, and
`--on RECIPE` those of any other. A study that was stopped goes on when the command is repeated, and more `--seeds` keep
the first ones.

```python
from fractionate.studies.plan import Arm, Study, against, beside, cost

deepkd = Arm("deepkd", "kd+deepkd")
mine = Study("mine", "Does DeepKD help kd?", "", (Arm("kd", "kd"), *beside(deepkd)), against("deepkd", "kd"))
print([arm.method for arm in mine.arms], cost(mine))
```

Whatever is chosen (a learning rate, a temperature, a share of the classes) is chosen by students on the validation part
of the training images, with seeds of their own, and confirmed on the test part. Every DeepKD and DOT arm stands beside
its controls: `reweighted`, which is plain SGD with the gains of the streams as loss weights at one backward pass, and
(DeepKD) `normalize_gain`, which divides the gains out and keeps the streams. Differences are paired by seed, with their
95 % Student interval; where it includes zero, the two cannot be told apart by these seeds, and where all seeds differ
by the same amount they give no interval. Intervals are not corrected for the number of comparisons.

A momentum m multiplies a constant gradient by 1 / (1 - m). `reweighted` keeps that and drops the memory behind it; so a
study that shows DeepKD above its base, and not above `reweighted`, speaks for the weights and not for the streams.
Weight decay is not taken over: under DeepKD it rides in the task's buffer and has four times the gain of plain SGD at
the default shift, under DOT .57 times.

Everything below is written by `python docs/studies.py` from the records under `benchmarks/results/studies`; nothing in
it is typed by hand.
"""


def page(folder: Path = RECORDS) -> str:
    """The whole page."""
    records = {file.stem: read_study(file) for file in sorted(folder.glob("*.json"))} if folder.is_dir() else {}
    return "\n".join([HEAD, *_contents(records), *(line for one in records.values() for line in _study(one))])


def _contents(records: dict[str, StudyRecord]) -> Iterator[str]:
    yield "| study | question | students | answered here |"
    yield "|---|---|---|---|"
    for study in STUDIES.values():
        there = f"yes, {records[study.name].raw['seeds']} seeds" if study.name in records else "not yet"
        yield f"| `{study.name}` | {study.question} | {cost(study)[0]} of {study.recipe} | {there} |"
    yield ""


def _study(record: StudyRecord) -> Iterator[str]:
    raw = record.raw
    yield f"## {raw['name']}"
    yield ""
    yield f"**{raw['question']}** {raw['about']}"
    yield ""
    yield from (f"- {sentence}" for sentence in [*record.sentences, *filter(None, [NOTES.get(raw["name"])])])
    yield ""
    yield f"| arm | {record.headline.head} | chosen | teacher | epochs | passes |"
    yield "|---|---|---|---|---|---|"
    for arm in record.arms:
        cells = (arm.name, f"**{spread(arm.values)}**", arm.value or "–", arm.teacher or "usual", str(arm.epochs))
        yield f"| {' | '.join(cells)} | {number(arm.passes, 0)} |"
    yield ""
    yield f"| this | against | difference, {record.headline.of} | seeds | verdict |"
    yield "|---|---|---|---|---|"
    for one in record.answers:
        found = one.difference
        verdict = VERDICTS.get(found.verdict, found.verdict)
        yield f"| {one.left} | {one.right} | {gap(found, one.digits)} | {len(found.values)} | {verdict} |"
    yield ""
    for one in raw["teachers"]:
        yield (
            f"- teacher {one['name'] or 'usual'} ({one['says']}): {number(one['test'])} % on the test images, "
            f"{number(one['train'])} % of {_what(one)} right, mean probability of their label "
            f"{number(one['label'], 3)} at T = 1 and {number(one['label_at_t'], 3)} at T = {one['temperature']:g}, "
            f"above .99 on {number(100 * one['sure'], 1)} % of them{_score(one)}"
        )
    commits = dict.fromkeys(arm.git for arm in record.arms if arm.git)
    versions = ", ".join(f"{name} {version}" for name, version in raw["arms"][0]["versions"].items())
    yield (
        f"- again: `fractionate study {raw['name']} --seeds {raw['seeds']}`; commit "
        f"{', '.join(commits) or 'not recorded'}; {raw['arms'][0]['device']}; {versions}"
    )
    yield ""


def _what(teacher: dict[str, Any]) -> str:
    return (
        f"the {teacher['of']} of the students' training images" if "of" in teacher else "the students' training images"
    )


def _score(teacher: dict[str, Any]) -> str:
    """The task's own metric on those images, of a dense task."""
    if "score" not in teacher:
        return ""
    metric = headline(teacher["headline"])
    return f"; {number(teacher['score'])} {metric.unit} {metric.label} on those images"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
