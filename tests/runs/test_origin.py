"""A run remembers what it was made of: other images or another teacher never slip in under the same names."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file

from fractionate.config.data import Data
from fractionate.config.run import Network, Run
from fractionate.export.folder import export_run
from fractionate.probe.measure import evaluate_run
from fractionate.runs import origin
from fractionate.runs.checkpoint import read_checkpoint, sealed
from fractionate.runs.folder import RunFolder
from fractionate.runs.origin import file_digest
from fractionate.runs.runner import run_in_folder
from fractionate.runs.stop import Stopped
from tests.runs.test_resume import outcome, stop_after
from tests.train.runs import teacher_file, tiny


@pytest.fixture
def taught(tmp_path: Path) -> Run:
    return tiny("kd", teacher=Network("convnet_8_16", teacher_file(tmp_path)))


def photos(root: Path) -> Path:
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for n in range(8):
            shade = (20 * n, 90, 40 if label == "cat" else 200)
            Image.new("RGB", (8 + n % 3, 8), shade).save(root / label / f"{n}.png")
    return root


def of(root: Path) -> Run:
    data = Data(name="folder", root=str(root), size=8, batch_size=5)
    return tiny("ce", student=Network("resnet8"), data=data)


def stopped(run: Run, folder: Path) -> None:
    with pytest.raises(Stopped):
        run_in_folder(run, folder, stop=stop_after(3))


def retrain(run: Run, name: str = "") -> Run:
    """Another teacher, in the same file or in another one."""
    assert run.teacher is not None
    assert run.teacher.checkpoint is not None
    file = Path(run.teacher.checkpoint)
    weights = {k: v + 0.1 if v.is_floating_point() else v for k, v in load_file(file).items()}
    target = file.with_name(name or file.name)
    save_file(weights, target)
    return replace(run, teacher=replace(run.teacher, checkpoint=str(target)))


def test_a_summary_says_what_the_run_was_made_of(taught: Run, tmp_path: Path) -> None:
    made = run_in_folder(taught, tmp_path / "run")["made_of"]
    assert made["teacher"] == file_digest(tmp_path / "teacher.safetensors")
    assert made["student"] == file_digest(tmp_path / "run" / "student.safetensors")
    assert made["train"] != made["test"]
    assert len(made["train"]) == 32


def test_labels_alone_need_no_kernel(tmp_path: Path) -> None:
    assert run_in_folder(tiny("ce"), tmp_path / "run")["made_of"]["losses"] is None


def test_a_teacher_that_was_replaced_is_refused(taught: Run, tmp_path: Path) -> None:
    stopped(taught, tmp_path / "run")
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    retrain(taught)
    with pytest.raises(ValueError, match=r"teacher's weights differ .* teacher.checkpoint=FILE, .* --overwrite"):
        run_in_folder(taught, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before


def test_another_teacher_that_is_named_is_taken_said_and_recorded(taught: Run, tmp_path: Path) -> None:
    stopped(taught, tmp_path / "run")
    with pytest.warns(UserWarning, match="other weights of the teacher"):
        facts = run_in_folder(retrain(taught, "other.safetensors"), tmp_path / "run", resume=True)
    fields = facts["changes"][0]["fields"]
    assert fields["teacher (sha256)"] == [
        file_digest(tmp_path / name) for name in ("teacher.safetensors", "other.safetensors")
    ]


def test_losses_that_other_code_computes_are_said_and_recorded(
    taught: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin, "state", lambda: "compiled kernels, a/cache/split-0a1b-2c3d.so")
    stopped(taught, tmp_path / "run")
    monkeypatch.setattr(origin, "state", lambda: "torch operations: FRACTIONATE_KERNEL=off")
    with pytest.warns(UserWarning, match="other code for the losses"):
        facts = run_in_folder(taught, tmp_path / "run", resume=True)
    assert facts["changes"][0]["fields"] == {"losses": ["compiled kernels, split-0a1b", "torch operations"]}
    assert (facts["made_of"]["losses"], facts["made_of"]["torch"]) == ("torch operations", torch.__version__)
    assert run_in_folder(tiny("ce"), tmp_path / "labels")["made_of"]["losses"] is None


def test_a_teacher_that_only_moved_is_the_same(taught: Run, tmp_path: Path) -> None:
    stopped(taught, tmp_path / "run")
    assert taught.teacher is not None
    moved = shutil.copy(tmp_path / "teacher.safetensors", tmp_path / "moved.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "the teacher has")  # it only guesses
        facts = run_in_folder(
            replace(taught, teacher=replace(taught.teacher, checkpoint=str(moved))), tmp_path / "run", resume=True
        )
    assert set(facts["changes"][0]["fields"]) == {"teacher.checkpoint"}


def test_a_finished_run_of_another_teacher_is_not_taken_for_this_one(taught: Run, tmp_path: Path) -> None:
    run_in_folder(taught, tmp_path / "run")
    retrain(taught)
    with pytest.raises(ValueError, match="taught by other weights"):
        run_in_folder(taught, tmp_path / "run", resume=True)


def test_images_that_moved_between_classes_are_refused_and_a_folder_that_moved_is_not(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    run_in_folder(of(root), tmp_path / "whole")
    stopped(of(root), tmp_path / "run")
    shutil.copytree(root, tmp_path / "moved")
    (root / "cat" / "1.png").rename(root / "dog" / "1b.png")
    with pytest.raises(ValueError, match=r"training images differ .* put them back"):
        run_in_folder(of(root), tmp_path / "run", resume=True)
    run_in_folder(of(tmp_path / "moved"), tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run")[:2] == outcome(tmp_path / "whole")[:2]


def test_a_run_of_an_older_release_goes_on(taught: Run, tmp_path: Path) -> None:
    stopped(taught, tmp_path / "run")
    path = tmp_path / "run" / "last.ckpt"
    state = read_checkpoint(path)
    del state["notes"]["made of"]
    torch.save(state, path)
    path.write_bytes(sealed(path.read_bytes()))
    retrain(taught)
    assert run_in_folder(taught, tmp_path / "run", resume=True)["changes"] == []


@pytest.mark.parametrize("ema", [None, 0.8])
def test_weights_of_a_finished_run_that_are_gone_are_written_again(
    ema: float | None, taught: Run, tmp_path: Path
) -> None:
    run = replace(taught, ema=ema)
    run_in_folder(run, tmp_path)
    student = RunFolder(tmp_path).student
    before = student.read_bytes()
    student.unlink()
    run_in_folder(run, tmp_path, resume=True)
    assert student.read_bytes() == before
    student.unlink()
    (tmp_path / "last.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"student.safetensors is gone: .* --overwrite"):
        run_in_folder(run, tmp_path, resume=True)
    (tmp_path / "last.ckpt").unlink()  # as studies are kept: the numbers stay, and nothing is trained
    assert run_in_folder(run, tmp_path, resume=True) == RunFolder(tmp_path).summary()
    assert not student.exists()


def test_damaged_weights_of_a_finished_run_are_refused_with_the_way_to_whole_ones(tmp_path: Path) -> None:
    run_in_folder(tiny("ce"), tmp_path)
    student, last = RunFolder(tmp_path).student, tmp_path / "last.ckpt"
    whole = student.read_bytes()
    student.write_bytes(whole[:-8] + bytes(8))
    with pytest.raises(ValueError, match=r"student.safetensors is not the file .*: delete it, and --resume writes it"):
        run_in_folder(tiny("ce"), tmp_path, resume=True)
    student.unlink()
    run_in_folder(tiny("ce"), tmp_path, resume=True)
    assert student.read_bytes() == whole
    student.write_bytes(whole[: len(whole) // 2])
    last.unlink()
    with pytest.raises(ValueError, match=r"is not the file .*: --overwrite trains it again"):
        run_in_folder(tiny("ce"), tmp_path, resume=True)


def test_a_finished_run_says_that_its_images_are_others_by_now(tmp_path: Path) -> None:
    root, folder = photos(tmp_path / "photos"), tmp_path / "run"
    run_in_folder(of(root), folder)
    facts = RunFolder(folder).summary()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (root / "cat" / "0.png").touch()  # younger than the run, and the same
        assert run_in_folder(of(root), folder, resume=True) == facts
    for n in range(4):
        (root / "cat" / f"{n}.png").rename(root / "dog" / f"{n}b.png")
    with pytest.warns(UserWarning, match="the train and test images are others by now .* --overwrite"):
        assert run_in_folder(of(root), folder, resume=True) == facts
    shutil.rmtree(root / "cat")
    with pytest.warns(UserWarning, match="its images cannot be read"):
        assert run_in_folder(of(root), folder, resume=True) == facts


def test_images_that_are_older_than_a_finished_run_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = photos(tmp_path / "photos")
    run_in_folder(of(root), tmp_path / "run")
    monkeypatch.setattr(origin, "sources", lambda *_: pytest.fail("read"))
    run_in_folder(of(root), tmp_path / "run", resume=True)


def test_weights_that_the_run_did_not_write_are_said_where_they_are_measured(tmp_path: Path) -> None:
    run_in_folder(tiny("ce"), tmp_path)
    out = StringIO()
    evaluate_run(tmp_path, Console(file=out))
    assert "not the file" not in out.getvalue()
    student = RunFolder(tmp_path).student
    save_file({k: v + 0.01 if v.is_floating_point() else v for k, v in load_file(student).items()}, student)
    evaluate_run(tmp_path, Console(file=out, width=500))
    assert "is not the file that this run wrote" in out.getvalue()


def test_another_teacher_than_the_run_s_is_said_where_the_student_is_compared_with_it(tmp_path: Path) -> None:
    weights = teacher_file(tmp_path)
    run_in_folder(tiny("kd", teacher=Network("convnet_8_16", weights)), tmp_path / "run")
    out = StringIO()
    evaluate_run(tmp_path / "run", Console(file=out, width=500))
    assert "any more" not in out.getvalue()
    save_file({k: v + 0.01 if v.is_floating_point() else v for k, v in load_file(weights).items()}, weights)
    evaluate_run(tmp_path / "run", Console(file=out, width=500))
    assert f"{weights} is not the teacher of this run any more" in out.getvalue()


def test_images_that_the_run_was_not_measured_on_are_said_where_they_are_measured(tmp_path: Path) -> None:
    root, out = photos(tmp_path / "photos"), StringIO()
    run_in_folder(of(root), tmp_path / "run")
    evaluate_run(tmp_path / "run", Console(file=out, width=500))
    assert "are not those" not in out.getvalue()
    for n in range(4):
        (root / "cat" / f"{n}.png").rename(root / "dog" / f"{n}b.png")
    evaluate_run(tmp_path / "run", Console(file=out, width=500))
    assert "the test images are not those that this run was measured on" in out.getvalue()


def test_pictures_that_changed_within_their_size_in_bytes_are_refused(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    for picture in sorted(root.rglob("*.png")):
        Image.open(picture).save(picture.with_suffix(".bmp"))
        picture.unlink()
    stopped(of(root), tmp_path / "run")
    bytes_before = (root / "cat" / "1.bmp").stat().st_size
    with Image.open(root / "cat" / "1.bmp") as image:
        Image.new("RGB", image.size, (255, 0, 0)).save(root / "cat" / "1.bmp")
    assert (root / "cat" / "1.bmp").stat().st_size == bytes_before
    with pytest.raises(ValueError, match="images differ"):
        run_in_folder(of(root), tmp_path / "run", resume=True)


def test_code_of_ones_own_network_that_changed_is_said_and_recorded(tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text(
        "from fractionate.models import create\n\n\ndef net(num_classes):\n"
        "    return create('convnet_8_16', num_classes=num_classes)\n"
    )
    run = tiny("ce", student=Network(f"{code}:net"))
    stopped(run, tmp_path / "run")
    code.write_text(code.read_text() + "\n# another activation\n")
    with pytest.warns(UserWarning, match="other code of its networks"):
        summary = run_in_folder(run, tmp_path / "run", resume=True)
    assert [list(change["fields"]) for change in summary["changes"]] == [["code"]]


def test_code_that_changed_behind_a_finished_run_is_said_and_not_shipped_under_its_numbers(tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text(
        "from fractionate.models import create\n\n\ndef net(num_classes):\n"
        "    return create('convnet_8_16', num_classes=num_classes)\n"
    )
    run, folder, out = tiny("ce", student=Network(f"{code}:net")), tmp_path / "run", StringIO()
    run_in_folder(run, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_in_folder(run, folder, resume=True)
    evaluate_run(folder, Console(file=out, width=500))
    assert "the code of" not in out.getvalue()
    code.write_text(code.read_text() + "\n# another activation\n")
    with pytest.warns(UserWarning, match=r"taken as it is, but the code of .*mine\.py:net is not what it was"):
        run_in_folder(run, folder, resume=True)
    evaluate_run(folder, Console(file=out, width=500))
    assert "mine.py:net is not what it was trained with" in out.getvalue()
    with pytest.raises(ValueError, match=r"is not what it was trained with.*put the code back"):
        export_run(folder, tmp_path / "exported", console=Console(file=out))
    assert not (tmp_path / "exported").exists()


def test_weights_in_a_teachers_folder_are_known_again(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    run = replace(tiny("kd", teacher=Network("resnet8")), teacher=Network(f"hf:{tmp_path}", pretrained=True))
    before = origin.teacher_digest(run)
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert None not in (before, origin.teacher_digest(run))
    assert before != origin.teacher_digest(run)


def test_code_beside_a_network_s_file_belongs_to_what_a_run_is_made_of(tmp_path: Path) -> None:
    """A function that a network imports from the next file, and one of a folder below; not what nobody imports."""
    (tmp_path / "mine").mkdir()
    write = {
        "net.py": "from helper import width\nfrom mine import depth\n",
        "helper.py": "import net\n",
        "other.py": "",
    }
    write |= {"mine/__init__.py": "from .deep import depth\n", "mine/deep.py": "depth = 2\n"}
    for name, text in write.items():
        (tmp_path / name).write_text(text)
    run = tiny(student=Network(f"{tmp_path / 'net.py'}:build"))
    before = origin._code_digest(run)
    for name, text in write.items():
        (tmp_path / name).write_text(text + "# changed\n")
        assert (origin._code_digest(run) == before) == (name == "other.py")
        (tmp_path / name).write_text(text)
