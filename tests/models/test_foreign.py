"""Networks as people have them: their logits are taken where it is clear which they are, or a sentence says why."""

from __future__ import annotations

import sys
import types
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fractionate import models
from fractionate.models import classes_of, copy_of, create, logits_of, pick_logits

Aux = namedtuple("Aux", ["logits", "aux_logits"])
Z, H = torch.randn(4, 3), torch.randn(4, 8, 2, 2)
IMAGES = torch.randn(4, 1, 4, 4)


class Output(OrderedDict):
    """As transformers' outputs are: a dict whose entries are attributes too."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Wrapped(nn.Module):
    """A linear classifier whose output is changed by ``how``, which is told whether it is being trained."""

    def __init__(self, how: Callable[[Tensor, bool], Any]) -> None:
        super().__init__()
        self.fc, self.norm, self.how = nn.Linear(16, 3), nn.BatchNorm1d(3), how

    def forward(self, x: Tensor) -> Any:
        return self.how(self.norm(self.fc(x.flatten(1))), self.training)


CLEAR = {
    "a tensor": Z,
    "maps of one pixel": Z[:, :, None, None],
    "half precision": Z.half(),
    "a named tuple with auxiliary heads": Aux(Z, Z + 1),
    "a dict with logits": {"features": torch.zeros(4, 8), "logits": Z},
    "a dict with a main and an auxiliary output": {"out": Z, "aux": Z + 1},
    "a dict with one": {"loss": torch.zeros(()), "prediction": Z},
    "a ModelOutput": Output(logits=Z, hidden_states=(H, H)),
    "an object": types.SimpleNamespace(logits=Z),
    "a tuple of one": (Z,),
    "logits and maps": (Z, H),
    "maps and logits": [H, H, Z],
    "logits and a dict of features": (Z, {"feats": [H], "pooled_feat": torch.zeros(4, 8)}),
}
UNCLEAR = {
    "two of them": ((Z, torch.zeros(4, 8)), "cannot be told apart"),
    "several exits": ([Z, Z, Z], "cannot be told apart"),
    "classes per pixel": (torch.zeros(4, 3, 5, 5), r"a tensor \[4, 3, 5, 5\] of float32.*not found"),
    "a number per image": (Z.sum(1), r"tensor \[4\]"),
    "whole numbers": (Z.long(), "int64"),
    "complex numbers": (Z + 0j, "complex64"),
    "logits that are none": ({"logits": None, "other": Z}, "logits: NoneType"),
    "an array": (Z.numpy(), "ndarray"),
    "nothing": (None, "NoneType"),
    "a sparse tensor": (Z.to_sparse(), r"a sparse_coo tensor \[4, 3\]"),
}


@pytest.mark.parametrize("kind", CLEAR)
def test_the_logits_are_taken_where_it_is_clear_which_they_are(kind: str) -> None:
    assert torch.equal(pick_logits(CLEAR[kind]).float(), CLEAR[kind].float().flatten(1) if "half" in kind else Z)


@pytest.mark.parametrize("kind", UNCLEAR)
def test_an_unclear_output_is_described_in_one_sentence(kind: str) -> None:
    output, words = UNCLEAR[kind]
    with pytest.raises(ValueError, match=f"the teacher Net returned .*{words}") as found:
        pick_logits(output, "teacher Net")
    assert "\n" not in str(found.value)


def broken(kind: type[BaseException], *args: object) -> nn.Module:
    def how(z: Tensor, training: bool) -> Tensor:
        raise kind(*args)

    return Wrapped(how)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (broken(KeyError, "fc"), "KeyError: 'fc'"),
        (broken(AssertionError), "AssertionError"),
        (broken(SystemExit, 3), "SystemExit: 3"),
        (broken(GeneratorExit), "GeneratorExit"),
        (broken(type("Ended", (BaseException,), {}), "early"), "Ended: early"),
        (broken(RuntimeError, "two\nlines"), "RuntimeError: two lines"),
    ],
)
def test_whatever_forward_raises_is_told_with_its_type_and_place(net: nn.Module, words: str) -> None:
    with pytest.raises(ValueError, match=rf"student Wrapped, .* images \[4, 1, 4, 4\].*{words}") as found:
        logits_of(net, IMAGES, "student")
    assert "\n" not in str(found.value)
    assert f"{Path(__file__).name}, line" in str(found.value)
    assert found.value.__cause__ is not None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError, torch.OutOfMemoryError])
def test_interrupts_and_exhausted_memory_pass_through(kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        logits_of(broken(kind), IMAGES)


def test_images_of_another_size_or_precision_are_named_with_the_weights_precision() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with pytest.raises(ValueError, match=r"images \[2, 1, 5, 5\] \(float32\): RuntimeError"):
        logits_of(net, torch.zeros(2, 1, 5, 5))
    with pytest.raises(ValueError, match="with float16 weights, in training mode, cannot"):
        logits_of(net.half(), IMAGES)


def test_logits_of_another_number_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="logits of 1 images when asked about 4"):
        logits_of(Wrapped(lambda z, training: z[:1]), IMAGES)


def test_a_script_module_and_a_data_parallel_one_give_their_logits() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    for other in (torch.jit.script(net), torch.jit.trace(net, IMAGES), nn.DataParallel(net)):
        assert torch.equal(logits_of(other, IMAGES), net(IMAGES))


def test_auxiliary_heads_are_left_out_in_training_and_only_there() -> None:
    net = Wrapped(lambda z, training: Aux(z, 2 * z) if training else z)
    assert classes_of(net, IMAGES, trained=True) == 3
    net.eval()
    evaluated = logits_of(net, IMAGES)
    net.norm.train()
    net.training = True
    assert not torch.equal(logits_of(net, IMAGES), evaluated)  # the batch's statistics: it did run in training mode


def test_an_output_that_is_unclear_in_training_only_is_found_beforehand() -> None:
    net = Wrapped(lambda z, training: (z, z) if training else z)
    assert classes_of(net, IMAGES) == 3
    with pytest.raises(ValueError, match="cannot be told apart"):
        classes_of(net, IMAGES, trained=True)


def test_a_failure_in_training_only_says_so() -> None:
    with pytest.raises(ValueError, match="network Wrapped, in training mode, cannot take"):
        classes_of(Wrapped(lambda z, training: z / 0 if not training else {}["x"]), IMAGES, trained=True)


def test_a_network_whose_way_back_fails_is_refused_beforehand() -> None:
    def licence(*_: object) -> None:
        raise OSError("no licence")

    for hook in ("full_backward_hook", "hook"):
        net = Wrapped(lambda z, _: z)
        getattr(net.fc if "_" in hook else net.fc.weight, f"register_{hook}")(licence)
        assert classes_of(net, IMAGES) == 3
        with pytest.raises(ValueError, match=r"the network Wrapped cannot be differentiated: OSError: no licence \("):
            classes_of(net, IMAGES, trained=True)
        assert net.fc.weight.grad is None


def test_a_subclass_of_tensors_ends_at_the_logits() -> None:
    class Named(Tensor):
        pass

    logits = pick_logits(Z.as_subclass(Named))
    assert type(logits) is Tensor
    assert torch.equal(logits, Z)


@pytest.mark.parametrize("net", [Wrapped(lambda z, _: z.detach()), Wrapped(lambda z, _: z).requires_grad_(False)])
def test_a_network_without_anything_to_train_is_refused_only_where_it_is_trained(net: nn.Module) -> None:
    assert classes_of(net, IMAGES) == 3
    with pytest.raises(ValueError, match="nothing in the network Wrapped can be trained"):
        classes_of(net, IMAGES, trained=True)


def test_counting_classes_leaves_modes_statistics_and_weights_alone() -> None:
    net = Wrapped(lambda z, training: z).train()
    net.norm.eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    classes_of(net, IMAGES, trained=True)
    assert (net.training, net.norm.training, net.fc.training) == (True, False, True)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(("name", "size"), [("googlenet", 96), ("inception_v3", 299)])
def test_torchvision_s_networks_with_auxiliary_heads_give_the_main_one(name: str, size: int) -> None:
    torchvision = pytest.importorskip("torchvision")
    net = torchvision.models.get_model(name, num_classes=3, init_weights=False).train()
    images = torch.randn(2, 3, size, size)
    torch.manual_seed(0)
    main = net(images).logits
    torch.manual_seed(0)
    assert torch.equal(logits_of(net, images), main)


def test_a_copy_of_a_weight_normed_network_is_its_own() -> None:
    with pytest.warns(FutureWarning):
        net = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(16, 3)))
    net(IMAGES)  # from here on its weight hangs on a graph, which deepcopy refuses
    other = copy_of(net)
    expected = net(IMAGES)
    assert torch.equal(other(IMAGES), expected)
    with torch.no_grad():
        other[1].weight_g.mul_(2)
    assert not torch.equal(other(IMAGES), expected)
    assert torch.equal(net(IMAGES), expected)


# functions that build networks


BUILDERS = """
import sys, torch
from torch import nn
class Ended(BaseException): pass
def ends(num_classes): raise Ended("early")
def good(num_classes): return nn.Linear(4, num_classes)
def key(num_classes): return {}["x"]
def exits(num_classes): sys.exit(3)
def endless(num_classes): return endless(num_classes)
def takes_nothing(): return nn.Linear(4, 3)
def lazy(num_classes): return nn.LazyLinear(num_classes)
def meta(num_classes): return nn.Linear(4, num_classes, device="meta")
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "builders of mine.py"
    path.write_text(BUILDERS)
    return path


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("key", "raised KeyError: 'x'"),
        ("exits", "raised SystemExit: 3"),
        ("endless", "raised RecursionError"),
        ("ends", "raised Ended: early"),
        ("takes_nothing", "num_classes=3.*TypeError"),
        ("lazy", "'weight' has no shape yet"),
        ("meta", "'weight' lies on the meta device"),
        ("goud", "did you mean 'good'"),
    ],
)
def test_whatever_a_function_does_wrong_is_one_sentence(function: str, words: str, file: Path) -> None:
    with pytest.raises(ValueError, match=words) as found:
        models.create(f"{file}:{function}", num_classes=3)
    assert "\n" not in str(found.value)
    if function in ("key", "exits", "endless", "ends"):
        assert f"{file}, line" in str(found.value)


def test_a_file_is_run_once_and_its_networks_survive_copying(file: Path) -> None:
    first, second = (models.create(f"{file}:good", num_classes=3) for _ in range(2))
    assert isinstance(copy_of(first), nn.Linear)
    assert first.out_features == second.out_features == 3


def test_files_of_one_name_are_two_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, width in (("a", 2), ("b", 5)):
        (tmp_path / name).mkdir()
        code = f"from torch import nn\ndef net(num_classes): return nn.Linear({width}, num_classes)\n"
        (tmp_path / name / "mine.py").write_text(code)
        assert models.create(f"{tmp_path}/{name}/mine.py:net", num_classes=3).in_features == width


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.py"):
        models.create(f"{tmp_path}/none.py:net", num_classes=3)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit(1)", "SystemExit: 1"),
        ("def (", "SyntaxError"),
        ("import no_such_package_of_mine", "ModuleNotFoundError: No module named 'no_such_package_of_mine'"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
@pytest.mark.parametrize("as_file", [True, False])
def test_whatever_a_module_raises_while_it_is_imported_is_one_sentence(
    code: str, words: str, as_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "wrong_module_of_mine.py").write_text(code)
    source = tmp_path / "wrong_module_of_mine.py" if as_file else "wrong_module_of_mine"
    for _ in range(2):  # nothing half made is left behind
        with pytest.raises(ImportError, match=words) as found:
            models.create(f"{source}:net", num_classes=3)
        assert "\n" not in str(found.value)


def test_code_of_somebody_else_does_not_run_unless_it_may(file: Path) -> None:
    file.write_text("raise SystemExit('this ran')")
    with pytest.raises(ValueError, match=r"runs the code of .*trust"):
        models.create(f"{file}:good", num_classes=3, own_code=False)
    assert models.create("convnet_4_8", num_classes=3, own_code=False).fc.out_features == 3


def test_a_network_is_built_without_values_where_the_caller_asks_for_that(file: Path) -> None:
    with torch.device("meta"):
        assert models.create(f"{file}:good", num_classes=3).weight.is_meta


@pytest.mark.parametrize(("name", "channels", "other"), [("convnet_4_8", 3, "resnet8"), ("resnet8", 1, "convnet")])
def test_pictures_of_other_channels_are_called_so(name: str, channels: int, other: str) -> None:
    takes, given = ("grey", "colour") if channels == 3 else ("colour", "grey")
    with pytest.raises(ValueError, match=rf"it takes {takes} pictures, and these are {given} pictures; .*{other}"):
        logits_of(create(name, num_classes=2), torch.zeros(2, channels, 8, 8))
