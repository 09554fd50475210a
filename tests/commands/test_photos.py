"""What a newcomer with a folder of photos is told, and how soon."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from fractionate.commands.look import Doctor, Named, chosen_run
from fractionate.commands.options import at_home
from fractionate.commands.photos import settled
from fractionate.commands.train import Train
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network
from fractionate.pictures import plan
from fractionate.pictures.kinds import batch_for, epochs_for, kind_of
from fractionate.pictures.plan import Networks, planned, trained_size
from fractionate.recipes.folder import optimizer_for, student


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for label in ("cat", "dog"):
        (root / label).mkdir()
        for i in range(10):
            Image.new("RGB", (230 + i, 300), (9 * i, 9, 9)).save(root / label / f"{i}.jpg")
    return root


def said(*words: str, **options: object) -> tuple[str, tuple[str, ...]]:
    text = StringIO()
    what, _ = settled(("folder", *words), Console(file=text, width=200), epochs=1, **options)  # type: ignore[arg-type]
    return text.getvalue(), what


def test_it_is_said_how_many_pictures_at_which_size_by_which_networks_and_what_comes_first(photos: Path) -> None:
    text, what = said(data=photos)
    for word in (
        "20 pictures of 2 classes",
        "230 to 239 pixels",
        "of memory",
        "resnet32",
        "resnet8",
        "first the teacher",
    ):
        assert word in text
    assert what[0] == "folder"
    assert int(what[1].removeprefix("data.size=")) <= 64


def test_it_is_said_before_torch_is_imported(photos: Path) -> None:
    code = (
        "import sys\nfrom io import StringIO\nfrom pathlib import Path\nfrom rich.console import Console\n"
        "from fractionate.commands.train import Train\n"
        f"Train(('folder',), data=Path({str(photos)!r})).look(Console())\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "20 pictures" in done.stdout


def test_networks_for_small_pictures_get_small_ones_and_a_gpu_larger_ones(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for gpu in (False, True):
        monkeypatch.setattr(plan, "has_gpu", lambda gpu=gpu: gpu)
        sizes = [
            planned(photos, Networks(teacher, pupil)).survey.size
            for teacher, pupil in (("resnet32", "resnet8"), ("timm:resnet18", "resnet8"), ("timm:a", "timm:b"))
        ]
        assert sizes[0] == sizes[1] <= 64 < sizes[2] <= 224
        assert sizes == [plan.SMALL[gpu], plan.SMALL[gpu], plan.PHOTO[gpu]]


def test_a_size_that_the_user_gives_is_kept_and_that_of_a_trained_teacher_is_taken(
    photos: Path, tmp_path: Path
) -> None:
    text, what = said("data.size=100", data=photos)
    assert what == ("folder", "data.size=100", "data.batch_size=8")
    assert "100 x 100 is what data.size says" in text
    (tmp_path / "config.yaml").write_text("student: x\ndata:\n  name: folder\n  size: 77\nepochs: 3\n")
    weights = tmp_path / "student.safetensors"
    assert trained_size(weights) == 77
    assert trained_size(tmp_path / "elsewhere" / "weights.pth") is None
    text, what = said(data=photos, checkpoint=weights)
    assert what == ("folder", "data.size=77", "data.batch_size=8")
    assert "first the teacher" not in text


def test_labels_alone_have_no_teacher_to_speak_of(photos: Path) -> None:
    assert "teacher" not in said(data=photos, method="ce")[0]
    assert "teacher" not in said("method=ce", data=photos)[0]


def test_batches_length_solver_and_method_are_chosen_and_said_with_the_reason(photos: Path) -> None:
    pytest.importorskip("timm")
    text, what = StringIO(), ("folder",)
    names = {"teacher": "timm:resnet18", "student": "timm:vit_tiny_patch16_224"}
    words, epochs = settled(what, Console(file=text, width=300), data=photos, **names)
    assert words[2] == "data.batch_size=8"
    assert epochs == 100
    for word in ("few because there are 16", "100 epochs", "AdamW at 0.0003", "kd, which suits", "teacher.pretrained"):
        assert word in text.getvalue()
    command = Train(("folder",), data=photos, teacher_epochs=3).look(Console(quiet=True))
    assert (command.epochs, command.teacher_epochs) == (100, 3)


def test_what_the_user_says_is_not_chosen(photos: Path) -> None:
    quiet = Console(quiet=True)
    words = ("folder", "data.size=16", "data.batch_size=4", "epochs=2")
    assert settled(words, quiet, data=photos) == (words, None)
    assert settled(("folder",), quiet, data=photos, epochs=7)[1] is None
    told = Console(file=StringIO(), width=400)
    few = settled(("folder", "data.labels_per_class=3"), told, data=photos)[0]
    assert few[-1] == "data.batch_size=3"
    assert "few because there are 6" in told.file.getvalue()
    tuned = Train(("folder", "teacher.pretrained=true"), data=photos).look(quiet)
    assert tuned.teacher_epochs is None


@pytest.mark.parametrize("images", range(2, 80))
def test_no_chosen_batch_is_larger_than_half_of_the_images(images: int) -> None:
    assert 1 < batch_for(images) <= max(2, images // 2)


def test_lengths_go_down_with_the_number_of_pictures() -> None:
    found = [epochs_for(n) for n in (10, 1000, 3000, 10_000, 1_000_000)]
    assert found == sorted(found, reverse=True)
    assert (found[0], found[-1]) == (100, 15)


def test_other_recipes_pass_through_and_a_folder_without_data_is_refused() -> None:
    assert settled(("digits", "epochs=1"), Console(quiet=True)) == (("digits", "epochs=1"), None)
    with pytest.raises(ValueError, match="--data"):
        settled(("folder",), Console(quiet=True))


def test_the_home_folder_may_be_written_in_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home-of-somebody")
    monkeypatch.setenv("USERPROFILE", "/home-of-somebody")
    command = at_home(Train(data=Path("~/photos"), out=Path("~/runs"), config=Path("~/a.yaml")))
    assert isinstance(command, Train)
    assert all("~" not in str(path) for path in (command.data, command.out, command.config))


def test_doctor_takes_networks_and_folder_as_train_does(photos: Path, tmp_path: Path) -> None:
    named = Named("timm:resnet18", tmp_path / "t.pth", "timm:mobilenetv3_small_050", photos)
    run = chosen_run(("folder", "epochs=2"), "dkd", named)
    assert run.teacher is not None
    assert (run.teacher.name, run.teacher.checkpoint) == ("timm:resnet18", str(tmp_path / "t.pth"))
    assert (run.student.name, run.data.root, run.epochs) == ("timm:mobilenetv3_small_050", str(photos), 2)
    with pytest.raises(ValueError, match="says itself"):
        chosen_run((str(tmp_path),), "dkd", named)


@pytest.mark.parametrize("epochs", [None, 5])
def test_doctor_looks_at_a_run_as_long_as_train_s(photos: Path, epochs: int | None) -> None:
    quiet = Console(quiet=True)
    looked = Doctor(data=photos, method="dkd", epochs=epochs).look(quiet)
    trained = Train(what=("folder",), data=photos, method="dkd", epochs=epochs).look(quiet)
    assert (looked.what, looked.epochs) == (trained.what, trained.epochs)
    run = chosen_run(looked.what, "dkd", Named(data=photos, epochs=looked.epochs))
    assert run.epochs == (epochs or epochs_for(16))
    assert run.method.args.get("warmup", 20) < run.epochs


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("resnet8", "small"),
        ("mobilenet_v2", "light"),
        ("timm:resnet50", "photo"),
        ("torchvision:efficientnet_b0", "light"),
        ("timm:mobilenetv3_small_050", "light"),
        ("timm:swin_tiny_patch4_window7_224", "transformer"),
        ("torchvision:vit_b_16", "transformer"),
        ("hf:models/vit", "transformer"),
    ],
)
def test_a_folder_s_optimizer_goes_by_the_kind_of_network_and_bounds_every_gradient(name: str, kind: str) -> None:
    assert kind_of(name) == kind
    optimizer = optimizer_for(name)
    assert optimizer.clip == 1
    assert (optimizer.name == "adamw") == (kind == "transformer")


def test_a_folder_s_runs_warm_up() -> None:
    run = student(MethodSpec("kd"), Network("resnet32"), epochs=24)
    assert run.learning_rate.warmup_epochs == 2
    assert student(MethodSpec("kd"), Network("resnet32"), epochs=1).learning_rate.warmup_epochs == 0
