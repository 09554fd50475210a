"""A run is plain data: it compares, pickles, and survives YAML; what it does not know it refuses by name."""

import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fractionate.config.data import Data
from fractionate.config.files import from_yaml, override, read_config, to_yaml
from fractionate.config.method import MethodSpec, Wrapper
from fractionate.config.optimizers import LearningRate, Optimizer
from fractionate.config.run import Monitors, Network, Run
from tests.train.runs import tiny

Plain = dict[str, Any]

METHODS = [
    MethodSpec("kd", {"temperature": 2, "kd_weight": 1e-5}),
    MethodSpec("dkd", {"warmup": 3}, (Wrapper("deepkd", {"delta": 0.05, "keep": "phases(plateau=0.5)"}),)),
    MethodSpec("gdkd", {"k": 3, "largest": False}, (Wrapper("dot"),)),
]
RATES = [LearningRate(), LearningRate("step", (150, 180)), LearningRate("cosine", warmup_epochs=3)]


@given(
    st.sampled_from(METHODS),
    st.sampled_from(RATES),
    st.fixed_dictionaries({"labels_per_class": st.none() | st.integers(1, 9), "flip": st.booleans()}),
    st.fixed_dictionaries({"lr": st.floats(1e-8, 10), "weight_decay": st.floats(0, 1)}),
    st.fixed_dictionaries({"merge": st.none() | st.booleans(), "threads": st.none() | st.integers(1, 8)}),
    st.text("abc:'# \n", min_size=1),
)
def test_a_run_survives_yaml_and_pickle(
    method: MethodSpec, rate: LearningRate, data: Plain, optimizer: Plain, rest: Plain, checkpoint: str
) -> None:
    run = tiny(
        method=method,
        learning_rate=rate,
        data=Data(**data),
        optimizer=Optimizer(**optimizer),
        teacher=Network("convnet_8_16", checkpoint),
        monitors=Monitors(gsnr_window=5, seeds=(0, 2)),
        **rest,
    )
    assert from_yaml(to_yaml(run)) == run
    assert pickle.loads(pickle.dumps(run)) == run


def test_yaml_names_every_field() -> None:
    assert set(yaml.safe_load(to_yaml(tiny()))) == {field.name for field in fields(Run)}


def test_fields_left_out_keep_their_defaults() -> None:
    assert from_yaml("student: convnet_4_8\nmethod: ce\n") == Run(Network("convnet_4_8"), MethodSpec("ce"))


def changed(**values: Any) -> str:
    data = yaml.safe_load(to_yaml(tiny("dkd+deepkd")))
    for path, value in values.items():
        *parents, last = path.split("__")
        place = data
        for key in parents:
            place = place[key] if isinstance(place, dict) else place[int(key)]
        place[last] = value
    return yaml.safe_dump(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(epoch=3), "unknown key 'epoch': did you mean 'epochs'"),
        (changed(optimizer__lrr=3), "unknown key 'optimizer.lrr': did you mean 'optimizer.lr'"),
        (changed(data__batchsize=3), "did you mean 'data.batch_size'"),
        (changed(teacher__chekpoint="a"), "did you mean 'teacher.checkpoint'"),
        (changed(method__arg={}), "did you mean 'method.args'"),
        (changed(method__wrappers__0__nam="x"), "did you mean 'method.wrappers.0.name'"),
        (changed(epochs="three"), "epochs: expected a valid integer, got 'three'"),
        (changed(epochs="3"), "epochs: expected a valid integer, got '3'"),
        (changed(epochs=2.5), "epochs"),
        (changed(epochs=True), "epochs"),
        (changed(optimizer__lr="fast"), "optimizer.lr: expected a valid number, got 'fast'"),
        (changed(optimizer__lr=0), "optimizer: lr must be above 0, got 0"),
        (changed(optimizer=3), "optimizer: expected an object, got 3"),
        (changed(learning_rate__schedule="cosin"), "expected 'constant', 'step', 'cosine' or 'poly', got 'cosin'"),
        (changed(learning_rate__milestones=[3]), "milestones belong to the schedule 'step'"),
        (changed(monitors__gsnr_window=1), "gsnr_window needs at least 2 steps"),
        (changed(method__name="dkdd"), "unknown method 'dkdd': did you mean 'dkd'"),
        (changed(method__args={"bet": 1}), "unknown argument of dkd 'bet': did you mean 'beta'"),
        (changed(method__wrappers__0__name="deepk"), "did you mean 'deepkd'"),
        (changed(teacher=None), "needs a teacher; 'ce' trains on labels alone"),
        (changed(optimizer__momentum=0.95), "must lie in .0, 1."),
        (changed(epochs=0), "epochs must be at least 1, got 0"),
        (changed(seed=-1), "seed must be at least 0"),
        ("epochs: 3", "student is missing"),
        ("- a\n- b", "expected 'key: value' lines, got list"),
        ("a: [", "broken YAML"),
        ("a: !!python/object:os.system {}", "broken YAML"),
    ],
)
def test_what_is_wrong_in_a_config_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        from_yaml(text, "my.yaml")
    assert str(error.value).startswith("my.yaml: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["5e-4", "5.0e-4", "0.0005", ".0005", "5E-4", "+5e-4"])
def test_a_number_may_be_written_as_people_write_it(text: str) -> None:
    assert override(tiny(), [f"optimizer.weight_decay={text}"]).optimizer.weight_decay == 0.0005


@pytest.mark.parametrize("text", ["e4", "5e", "1e4e", "v1e4"])
def test_what_only_resembles_a_number_stays_text(text: str) -> None:
    assert override(tiny(), [f"student.name={text}"]).student.name == text


def test_changes_reach_nested_fields_in_order() -> None:
    changes = ["epochs=9", "method.args.beta=2", "data.labels_per_class=null", "teacher.checkpoint=a=b", "epochs=5"]
    expected = replace(
        tiny(),
        epochs=5,
        method=MethodSpec("dkd", {"beta": 2}),
        data=replace(tiny().data, labels_per_class=None),
        teacher=Network("convnet_8_16", checkpoint="a=b"),
    )
    assert override(tiny(), changes) == expected


def test_a_method_and_a_network_have_short_forms() -> None:
    run = override(tiny(), ["method=deepkd(delta=0.05)", "student=convnet_8_16"])
    assert run.method == MethodSpec.parse("dkd+deepkd(delta=0.05)")
    assert run.student == Network("convnet_8_16")


def test_a_name_in_short_form_may_be_followed_by_its_details() -> None:
    run = override(tiny("ce"), ["teacher=convnet_8_16", "teacher.checkpoint=a", "method=dkd", "method.args.beta=3"])
    assert run.teacher == Network("convnet_8_16", checkpoint="a")
    assert run.method == MethodSpec("dkd", {"beta": 3})


def test_a_teacher_can_be_given_where_there_was_none() -> None:
    run = override(tiny("ce"), ["teacher.name=convnet_8_16", "method=kd"])
    assert run.teacher == Network("convnet_8_16")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs", "expected field=value, got 'epochs'"),
        ("=3", "expected field=value"),
        ("epochs.deep=3", "epochs has no fields of its own"),
        ("epoch=3", "did you mean 'epochs'"),
        ("lr=3", r"unknown key 'lr': did you mean optimizer\.lr\?"),
        ("checkpoint=a", r"did you mean student\.checkpoint or teacher\.checkpoint\?"),
        ("epochs=[", "broken YAML"),
    ],
)
def test_a_change_that_cannot_be_is_refused(change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(tiny(), [change])


def test_a_missing_config_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config file at .*none.yaml"):
        read_config(tmp_path / "none.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose runs name weights and images by paths that hold from the folder itself."""
    run = replace(
        tiny(),
        student=Network("convnet_4_8", checkpoint="runs/first.pth"),
        teacher=Network("convnet_8_16", checkpoint="runs/teacher.pth"),
        data=replace(tiny().data, root="images"),
    )
    for folder in ("images", "runs/kd/seed-0"):
        (tmp_path / "project" / folder).mkdir(parents=True)
    for weights in ("first", "teacher"):
        (tmp_path / "project" / "runs" / f"{weights}.pth").touch()
    (tmp_path / "project" / CONFIG).write_text(to_yaml(run))
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


CONFIG = "runs/kd/seed-0/config.yaml"


def test_a_config_is_read_as_written_where_it_was_written(project: Path) -> None:
    (project / "runs/kd/images").mkdir()  # nearer to the config, but not what was meant
    for path in (CONFIG, project / CONFIG):
        assert read_config(path) == from_yaml((project / CONFIG).read_text())


@pytest.mark.parametrize("moved", [False, True])
def test_the_paths_of_a_config_are_found_from_elsewhere(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    (tmp_path / "else" / "images").mkdir(parents=True)  # of the same name as what is meant
    monkeypatch.chdir(tmp_path / "else")
    if moved:
        project = project.rename(tmp_path / "moved")
    with pytest.warns(UserWarning, match="images of the config is taken to be .*, not that of the current folder"):
        run = read_config(project / CONFIG)
    (tmp_path / "else" / "images").rmdir()
    assert run == read_config(Path("..") / project.name / CONFIG)
    assert run.student.checkpoint == str(project / "runs/first.pth")
    assert run.teacher == Network("convnet_8_16", checkpoint=str(project / "runs/teacher.pth"))
    assert run.data.root == str(project / "images")


def test_a_path_of_a_config_stays_as_it_is_written_if_it_is_absolute_or_means_the_same(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alias").symlink_to(project)
    config = tmp_path / "alias" / CONFIG  # the current folder by another name
    assert read_config(config) == from_yaml(config.read_text())
    slashed = override(read_config(CONFIG), [f"data.root={project}/images/"])
    config.write_text(to_yaml(slashed))
    monkeypatch.chdir(tmp_path)
    assert read_config(config).data.root == f"{project}/images/"


def test_a_path_of_a_config_that_is_nowhere_stays_as_it_is(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "runs" / "teacher.pth").unlink()
    monkeypatch.chdir(tmp_path)
    assert read_config(project / CONFIG).teacher == Network("convnet_8_16", checkpoint="runs/teacher.pth")
