import pytest

from fractionate.report import RunFolderError, read_runs
from tests.report.synthetic import write_run, write_study


def test_a_parent_stands_for_its_run_folders_at_any_depth(tmp_path):
    folders = write_study(tmp_path / "deep" / "er", methods=("kd", "dkd"), seeds=2)
    assert [run.folder for run in read_runs([tmp_path])] == sorted(folders)


def test_folders_keep_the_order_given(study):
    assert [run.folder for run in read_runs(study[::-1])] == study[::-1]


def test_a_folder_given_twice_is_read_once(study):
    assert len(read_runs([study[0], study[0].parent, study[0]])) == len(study)


def test_columns_are_those_of_the_file(tmp_path):
    run = read_runs([write_run(tmp_path / "run", "dkd+deepkd", seed=1, epochs=7)])[0]
    column = run.column("component/nontarget")
    assert list(column) == [1, 2, 3, 4, 5, 6, 7]
    assert run.column("cosine/task|target")
    assert run.column("no such column") == {}


def test_null_is_an_absent_value(tmp_path):
    folder = write_run(tmp_path / "run", epochs=1)
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "test_top1": null, "lr": 0.1}\n')
    assert read_runs([folder])[0].column("test_top1") == {}


def test_a_run_is_watched_also_where_no_window_of_it_ended(tmp_path):
    folder = write_run(tmp_path / "run", epochs=1)
    for more, watched in (("", False), (', "gsnr/task": null', True), (', "gsnr/task": 0.5', True)):
        (folder / "metrics.jsonl").write_text(f'{{"epoch": 1, "lr": 0.1{more}}}\n')
        (run,) = read_runs([folder])
        assert run.watched is watched
        assert set(run.epochs[0]) <= {"epoch", "lr", "gsnr/task"}


def test_a_run_without_summary_is_read_as_unfinished(tmp_path):
    run = read_runs([write_run(tmp_path / "run", finished=False, epochs=3)])[0]
    assert not run.finished
    assert len(run.epochs) == 3


def test_a_half_written_last_line_belongs_to_a_run_that_still_writes(tmp_path):
    folder = write_run(tmp_path / "run", finished=False, epochs=3)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 4, "test_t')
    assert len(read_runs([folder])[0].epochs) == 3


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"epoch": 3, "test_top1": }', "broken JSON"),
        ("[1, 2]", "expected a JSON object, got list"),
        ('{"test_top1": 90.0}', "'epoch' must be a whole number, got None"),
        ('{"epoch": true}', "'epoch' must be a whole number, got True"),
        ('{"epoch": 1}', "epoch 1 follows epoch 2: epochs must increase"),
    ],
)
def test_a_broken_line_is_named_by_file_and_line(tmp_path, line, why):
    folder = write_run(tmp_path / "run", epochs=2)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(RunFolderError) as caught:
        read_runs([folder])
    assert (caught.value.file, caught.value.line) == (folder / "metrics.jsonl", 3)
    assert str(caught.value).startswith(f"{folder / 'metrics.jsonl'}, line 3: {why}")


def test_bytes_that_are_no_text_are_named_by_file_and_line(tmp_path):
    folder = write_run(tmp_path / "run", epochs=2)
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b'{"epoch": 3, "\xff": 1}\n')
    with pytest.raises(RunFolderError, match="line 3: not UTF-8"):
        read_runs([folder])


def test_broken_summaries_and_configs_are_named_by_file_and_line(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "config.yaml").write_text("seed: 0\nmethod: [kd\n")
    with pytest.raises(RunFolderError, match=r"config\.yaml, line 3: broken YAML"):
        read_runs([folder])
    (folder / "config.yaml").unlink()
    (folder / "summary.json").write_text('{\n"seed": 0,\n}')
    with pytest.raises(RunFolderError, match=r"summary\.json, line 3: broken JSON"):
        read_runs([folder])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"method": None}, "'method' is missing"),
        ({"last_top1": None}, "'last_top1' is missing"),
        ({"last_top1": "93"}, "'last_top1' must be a number, got '93'"),
        ({"seed": 1.5}, "'seed' must be a whole number, got 1.5"),
        ({"student": 7}, "'student' must be text, got 7"),
        ({"versions": "all"}, "'versions' must be an object"),
        ({"calibration": {"confidence": [0.5]}}, "'calibration' must be an object of equally long"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(tmp_path, change, why):
    folder = write_run(tmp_path / "run", **change)
    with pytest.raises(RunFolderError, match=rf"summary\.json: {why}"):
        read_runs([folder])


def test_a_folder_without_runs_says_what_it_looked_for(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run: no summary\.json, metrics\.jsonl or"):
        read_runs([tmp_path])


def test_missing_folders_and_plain_files_are_told_apart(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        read_runs([tmp_path / "gone"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, not a run folder"):
        read_runs([tmp_path / "file"])


@pytest.mark.usefixtures("unchecked")
def test_one_path_instead_of_a_list_is_refused(study):
    with pytest.raises(TypeError, match="list of folders"):
        read_runs(study[0])


def test_a_finished_run_needs_its_epochs(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(RunFolderError, match="holds no epoch"):
        read_runs([folder])
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(RunFolderError, match="missing, although"):
        read_runs([folder])


def test_a_commit_with_local_changes_says_so(tmp_path):
    git = {"commit": "0123456789abcdef", "changed": True}
    run = read_runs([write_run(tmp_path / "run", git=git, command=["fractionate", "demo", "--out", "two words"])])[0]
    assert run.facts.git == "0123456789ab, changed since"
    assert run.facts.command == "fractionate demo --out 'two words'"


def test_an_unfinished_run_has_no_facts(tmp_path):
    run = read_runs([write_run(tmp_path / "run", finished=False)])[0]
    with pytest.raises(RunFolderError, match="unfinished"):
        _ = run.facts
