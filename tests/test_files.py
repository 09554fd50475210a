"""Paths as people write them, and files that are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fractionate import _files, models
from fractionate._files import cache_folder, expanded, write_atomically
from fractionate.cli import main
from fractionate.config.files import read_config
from fractionate.runs.checkpoint import save_weights
from fractionate.runs.folder import RunFolder
from tests.data.pillow import Image


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_a_tilde_is_the_home_folder_in_every_option_that_no_shell_expands(home: Path) -> None:
    for label in ("cat", "dog"):
        (home / "photos" / label).mkdir(parents=True)
        for n in range(6):
            Image.new("RGB", (8, 8), (40 * n, 90, 40 if label == "cat" else 200)).save(
                home / "photos" / label / f"{n}.png"
            )
    save_weights(models.create("resnet8", num_classes=2), home / "teacher.safetensors")
    nets = ["--student", "resnet8", "--teacher", "resnet8", "--teacher-checkpoint=~/teacher.safetensors"]
    few = ["--epochs", "1", "data.batch_size=4", "--device", "cpu"]
    words = ["train", "folder", "--data=~/photos", "--method", "kd", *nets, *few]
    assert main([*words, "--out=~/runs"]) == 0
    run = next((home / "runs").rglob("config.yaml")).parent
    again = f"~/{run.relative_to(home)}"
    fields = ["data.root=~/photos", "teacher.checkpoint=~/teacher.safetensors"]
    assert main(["train", f"--config={again}/config.yaml", "--out=~/twice", *fields]) == 0
    assert main(["evaluate", again]) == 0
    assert main(["report", again, "--out=~/page.html"]) == 0
    assert (home / "page.html").is_file()
    assert read_config("~/twice/config.yaml").data.root == "~/photos"
    assert not Path("~").exists()


def test_the_tilde_of_nobody_stays() -> None:
    assert expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")


def test_a_user_without_a_home_is_told_how_to_name_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(_files.CACHE, raising=False)
    monkeypatch.setattr(os.path, "expanduser", str)
    with pytest.raises(OSError, match="FRACTIONATE_CACHE names a place"):
        cache_folder()
    monkeypatch.setenv(_files.CACHE, "kept")
    assert cache_folder() == Path("kept")


def test_a_name_as_long_as_a_folder_takes_can_be_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("x" * 250), "whole")
    assert [len(file.name) for file in tmp_path.iterdir()] == [250]


@pytest.mark.parametrize("content", ["new", b"new", lambda file: file.write(b"new")])
def test_what_was_there_is_kept_under_another_name_where_one_is_given(content: object, tmp_path: Path) -> None:
    path, former = tmp_path / "a", tmp_path / "b"
    write_atomically(path, "old", keep=former)
    assert not former.exists()
    write_atomically(path, content, keep=former)
    assert (path.read_text(), former.read_text()) == ("new", "old")
    write_atomically(path, content)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


def test_a_device_or_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, "all of it")
    assert os.read(reader, 99) == b"all of it"
    os.close(reader)
    assert pipe.is_fifo()
    before = os.stat(os.devnull)
    write_atomically(Path(os.devnull), "gone")
    assert os.path.samestat(before, os.stat(os.devnull))


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("there", "new"):
        (tmp_path / name).symlink_to(Path("elsewhere", name))
    (tmp_path / "elsewhere" / "there").write_text("old")
    for name in ("there", "new"):
        write_atomically(tmp_path / name, "written")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "elsewhere" / name).read_text() == "written"
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="cannot write"):
        write_atomically(tmp_path / "circle", "nowhere")
    assert (tmp_path / "circle").is_symlink()


@pytest.mark.parametrize("content", ["[]", "3", "null", "[" * 100_000])
def test_a_summary_that_is_no_object_is_refused_in_words(content: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ValueError, match=r"summary\.json.*JSON"):
        RunFolder(tmp_path).summary()


def test_what_cannot_be_written_is_said_and_leaves_what_was_there(tmp_path: Path) -> None:
    def full(file: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_atomically(tmp_path / "a", "old")
    with pytest.raises(OSError, match=r"cannot write .*no space left on device; what was there before is unchanged"):
        write_atomically(tmp_path / "a", full)
    assert (tmp_path / "a").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    with pytest.raises(OSError, match="cannot write"):
        write_atomically(tmp_path / "nowhere" / "a", "x")


def test_weights_under_two_names_are_saved_under_both(tmp_path: Path) -> None:
    net = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2)})
    net["b"] = net["a"]
    save_weights(net, tmp_path / "student.safetensors")
    found = load_file(tmp_path / "student.safetensors")
    assert torch.equal(found["a.weight"], found["b.weight"])
    models.load_checkpoint(net, tmp_path / "student.safetensors")
