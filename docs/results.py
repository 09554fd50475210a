"""Write docs/results.md, and the numbers of README.md, from the rows of finished runs: python docs/results.py

Rows lie in benchmarks/results/runs/STUDY/METHOD/seed-N (`python -m benchmarks.keep` puts them there). A picture of
every study goes to docs/_static.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from fractionate.recipes import RECIPES
from fractionate.report import read_runs, table
from fractionate.report.page import accuracy_svg
from fractionate.report.runs import RunRecord
from fractionate.report.table import Row, Table, teachers
from fractionate.report.words import finding, gap, number, spread
from fractionate.studies.certainty import knowledge
from fractionate.studies.questions import STUDIES

sys.path.insert(0, str(Path(__file__).parent))
import draw_when
from dense_results import NOTES
from dense_results import lines as of_dense_tasks
from which_method import CERTAINTY
from which_method import lines as when

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
FIRST = ("which-method", "cifar100-small")  # whose rows people see first; the README has those of the first that ran
AUTO = "'kd(weights=auto)' 'dkd(weights=auto)' 'gdkd(weights=auto)'"
# Kept rows of a recipe with other methods or settings: what they show, and the commands that train them.
VARIANTS = {
    "cifar100-small": (
        "CIFAR-100 at a small scale, whose teacher knows three fifths of the images",
        "fractionate compare cifar100-small --seeds 3 --controls --methods ce kd dkd gdkd kd+dot dkd+deepkd "
        f"'dkd+deepkd(rule=published-code)' dgkd topkd 'kd(kd_weight=1)+lskd' ldrld kd+ea tpkd wsld {AUTO}",
    ),
    "cifar100-16px-10k": (
        "CIFAR-100 at 16 pixels, twice the images and a teacher that knows two thirds of them",
        "fractionate compare cifar100-16px data.labels_per_class=100 --epochs 20 --methods ce kd kd+deepkd dkd gdkd "
        f"{AUTO} --controls --seeds 3 --out runs/cifar100-16px-10k",
    ),
    "cifar100-16px-10k-plain": (
        "CIFAR-100 at 16 pixels, twice the images and a teacher that was shown them as they are and knows them",
        "fractionate train cifar100-16px data.labels_per_class=100 data.shift=0 data.flip=false --student vgg8 "
        "--method ce --epochs 12 --out runs/plain",
        "fractionate compare cifar100-16px data.labels_per_class=100 --epochs 20 --methods ce kd kd+deepkd dkd gdkd "
        f"{AUTO} 'kd(nontarget=0.3)' 'dkd(beta=3)' 'gdkd(w2=3)' --controls --seeds 3 "
        "--teacher-checkpoint runs/plain/vgg8__vgg8/ce/seed-0/student.safetensors "
        "--out runs/cifar100-16px-10k-plain",
    ),
    "cifar100-small-longtail": (
        "CIFAR-100 at a small scale, with frequent and rare classes",
        "fractionate compare cifar100-small data.labels_per_class=500 data.imbalance=10 --methods ce kd ltkd "
        "--seeds 3 --out runs/cifar100-small-longtail",
    ),
}
BEGIN = "<!-- numbers: written by `python docs/results.py`, checked by a test -->"
END = "<!-- end of numbers -->"
STATIC = ROOT / "docs" / "_static"
ROWS = ROOT / "benchmarks" / "results" / "runs"
WORDS = {"above": "above", "below": "below", "within": "within the spread", "unknown": "one seed"}

HEAD = """# Results

Written by `python docs/results.py` from the run folders under `benchmarks/results/runs`; nothing here is typed by hand.
Top-1 (or the headline of another task) on the test images in percent, mean ± sample standard deviation over the seeds.
The last epoch is the headline; the best one stands beside it, because it was chosen on the test images. Differences are
paired by seed, with their 95 % Student interval; "above" and "below" mean that the interval excludes zero, "within the
spread" that it does not. Seconds are wall-clock time of a run, on a machine that may have had other work.

The same command gives the same numbers on the same processor with the same torch. Another processor rounds otherwise,
and after a few hundred steps that is another run of the same seed. So all rows of a study share one teacher's weights,
and a study that lacks runs is completed with those weights, which are kept beside the rows, or not at all.
"""


def page(folder: Path = ROWS) -> str:
    """The whole page."""
    found = [line for study in _studies(folder) for line in _study(study)]
    return "\n".join([HEAD, *when(folder.parent / "studies", folder), *found])


def readme(text: str, folder: Path = ROWS) -> str:
    """The README's text with the current numbers between its two marks, the best mean first."""
    rows = sorted(table(read_runs([shown(folder)])).rows, key=lambda row: -row.last.mean)
    lines = ["| method | last epoch | against labels alone |", "|---|---|---|"]
    lines += [f"| `{row.label}` | **{spread(row.last)}** | {gap(row.difference)} |" for row in rows]
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"])


def shown(folder: Path = ROWS) -> Path:
    """The study whose rows stand in the README."""
    return next(folder / name for name in FIRST if (folder / name).is_dir())


def pictures(folder: Path = ROWS) -> dict[str, str]:
    """File name -> SVG of every study and of the map, for wide and narrow screens; the best mean stands on top."""
    drawn = draw_when.pictures(folder.parent / "studies", folder)
    for study in _studies(folder):
        rows = sorted(table(read_runs([study])).rows, key=lambda row: -row.last.mean)
        drawn |= {_picture(study): accuracy_svg(rows), _picture(study, "-narrow"): accuracy_svg(rows, narrow=True)}
    return drawn


def _studies(folder: Path) -> list[Path]:
    found = sorted(f for f in folder.iterdir() if f.is_dir()) if folder.is_dir() else []
    return sorted(found, key=lambda f: FIRST.index(f.name) if f.name in FIRST else len(FIRST))


def _picture(study: Path, form: str = "") -> str:
    return f"results-{study.name}{form}.svg"


def _title(study: Path) -> str:
    if study.name in STUDIES:
        return STUDIES[study.name].question
    if study.name in VARIANTS:
        return VARIANTS[study.name][0]
    return recipe.title if (recipe := RECIPES.get(study.name)) else study.name


def _study(folder: Path) -> Iterator[str]:
    runs = read_runs([folder])
    against_labels = table(runs)
    recipe = RECIPES.get(folder.name)
    seeds = max(row.n for row in against_labels.rows)
    yield f"## {_title(folder)}"
    yield ""
    if recipe and folder.name not in VARIANTS:
        doc = (sys.modules[recipe.student.__module__].__doc__ or "").strip().splitlines()[0]
        yield f"{doc} Again: `fractionate compare {folder.name} --seeds {seeds}`."
        yield ""
    if folder.name in VARIANTS:
        yield f"Again: {', then '.join(f'`{command}`' for command in VARIANTS[folder.name][1:])}."
        yield ""
    if folder.name in STUDIES:
        yield f"{STUDIES[folder.name].about} Again: `fractionate study {folder.name} --seeds {seeds}`."
        yield ""
    yield from _conditions(runs, against_labels)
    yield from _known(folder)
    yield " ".join(finding(against_labels.rows))
    yield ""
    yield "<picture>"
    yield f'<source media="(max-width: 640px)" srcset="_static/{_picture(folder, "-narrow")}">'
    yield f'<img src="_static/{_picture(folder)}" alt="Every seed, the mean, and the paired difference">'
    yield "</picture>"
    yield ""
    yield from _published(folder)
    yield from _rows(against_labels, runs)
    yield from of_dense_tasks(against_labels.rows)
    yield ""
    yield from (f"- {note}" for note in [*against_labels.notes, *filter(None, [NOTES.get(folder.name)])])
    yield from _verdicts(runs)


def _conditions(runs: list[RunRecord], found: Table) -> Iterator[str]:
    """Data, networks, teachers, hardware and versions, as the runs recorded them."""
    first = found.rows[0].group.summaries[0]
    settings = found.rows[0].group.runs[0].settings
    labels = settings.get("data.labels_per_class", "null")
    few = "" if labels == "null" else f", {labels} labels per class"
    yield f"- {first.dataset.split(',')[0]}{few}, {first.epochs} epochs, batch {settings['data.batch_size']}"
    yield f"- student {first.student}, {first.params:,} parameters" if first.params else f"- student {first.student}"
    for teacher in teachers(found.rows):
        size = f", {teacher.params:,} parameters" if teacher.params else ""
        metric = found.rows[0].headline
        yield f"- teacher {teacher.name}{size}, {spread(teacher.score)} {metric.unit} {metric.label}".rstrip()
    facts = [run.facts for run in runs if run.finished]
    for what, of in (
        ("hardware", lambda s: s.device),
        ("torch", lambda s: s.versions.get("torch")),
        ("commit", lambda s: s.git),
    ):
        values = dict.fromkeys(of(s) for s in facts if of(s))
        if values:
            yield f"- {what}: {', '.join(values)}"
    yield ""


def _known(folder: Path) -> Iterator[str]:
    """How well the teacher knows the students' training images, where a dense task's rows have it beside them."""
    place = folder / CERTAINTY
    found = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
    if "score" in found:
        yield f"The {knowledge({'name': '', **found})}."
        yield ""


def _rows(found: Table, runs: list[RunRecord]) -> Iterator[str]:
    against_kd = {row.label: row for row in table(runs, _kd(runs)).rows} if _kd(runs) else {}
    yield "| method | seeds | last epoch | best epoch | against labels alone | against kd | agreement % | seconds |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in found.rows:
        kd = against_kd.get(row.label)
        cells = (
            f"`{row.label}`",
            str(row.n),
            f"**{spread(row.last)}**",
            spread(row.best),
            gap(row.difference),
            gap(kd.difference if kd else None),
            spread(row.agreement, 1),
            number(row.seconds.mean, 0) if row.seconds else "–",
        )
        yield f"| {' | '.join(cells)} |"


def _published(folder: Path) -> Iterator[str]:
    """The rows of a teacher and a student of the field, by recipe, beside what was published."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    from benchmarks import published

    if published.is_pair(folder):
        yield from published.lines(folder)
        yield ""


def _verdicts(runs: list[RunRecord]) -> Iterator[str]:
    """Which differences are beyond the seeds' noise, and which are not."""
    for name in ("labels alone", _kd(runs)):
        rows = table(runs, name).rows if name and _has(runs, name) else ()
        groups: dict[str, list[str]] = {}
        for row in rows:
            if row.difference:
                groups.setdefault(WORDS[row.difference.verdict], []).append(f"`{row.label}`")
        if groups:
            yield (
                f"- Against {name}: " + "; ".join(f"{word}: {', '.join(names)}" for word, names in groups.items()) + "."
            )
    yield ""


def _kd(runs: list[RunRecord]) -> str | None:
    return next((label for label in ("kd", "kd (defaults)") if _has(runs, label)), None)


def _has(runs: list[RunRecord], label: str) -> bool:
    rows: tuple[Row, ...] = table(runs).rows
    return any(row.label == label for row in rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    for name, drawing in pictures().items():
        (STATIC / name).write_text(drawing, encoding="utf-8")
