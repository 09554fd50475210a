"""A config whose files were renamed says which path is gone and which field takes the new one."""

from dataclasses import replace
from pathlib import Path

import pytest

from fractionate.cli import main
from fractionate.config.data import Data
from fractionate.config.files import check_there, to_yaml
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run


@pytest.mark.parametrize("field", ["data.root", "teacher.checkpoint", "student.checkpoint"])
def test_a_path_that_is_gone_is_named_with_its_field_and_the_folder_that_is_missing(field: str, tmp_path: Path) -> None:
    old = tmp_path / "old" / "deep" / "file"
    old.parent.mkdir(parents=True)
    old.touch()
    run = Run(student=Network("resnet8"), method=MethodSpec("kd"), teacher=Network("resnet8"), data=Data("folder"))
    part, name = field.split(".")
    run = replace(run, **{part: replace(getattr(run, part), **{name: str(old)})})
    check_there(run, "config.yaml")
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(ValueError, match=rf"{field} of config.yaml is .*no {tmp_path / 'old'} any more.*{field}=PATH"):
        check_there(run, "config.yaml")


def test_train_from_a_config_says_it_before_anything_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = Network("resnet8", checkpoint=str(tmp_path / "gone" / "student.safetensors"))
    run = Run(student=Network("convnet_4_8"), method=MethodSpec("kd"), teacher=teacher, data=Data("digits"))
    (tmp_path / "config.yaml").write_text(to_yaml(run))
    assert main(["train", "--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert "teacher.checkpoint=PATH" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
