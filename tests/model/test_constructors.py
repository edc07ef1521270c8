"""What a checkpoint may have called, and what it may not."""

import sys

import pytest
import torch
from foreign_models import ARGUMENTS, CODE, CONSTRUCTOR, fake_analyse, monai_unet
from odd_networks import Plain

from pipeline.errors import ModelError
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.constructed import ConstructedArchitecture
from pipeline.model.constructors import (
    VARIABLE,
    allowed_packages,
    call_constructor,
    check_allowed,
    code_name,
    construct,
)
from pipeline.model.unet import UNet

ODD = frozenset({"odd_networks"})
SOURCE = CODE.encode()
DIGEST = code_name(SOURCE).replace("_", ":")


def architecture(constructor: str = CONSTRUCTOR) -> ConstructedArchitecture:
    findings = fake_analyse(monai_unet(), dims=2, in_channels=1)
    return ConstructedArchitecture(
        constructor=constructor, arguments=ARGUMENTS, dims=2, in_channels=1, classes=1, analysis=findings.analysis
    )


def test_both_families_are_constructed():
    assert isinstance(construct(UNetArchitecture(depth=2, width=2)), UNet)
    built = construct(architecture())
    assert type(built).__module__ == "monai.networks.nets.unet"
    assert built.state_dict().keys() == monai_unet().state_dict().keys()


def test_the_operator_adds_packages_by_a_setting(monkeypatch):
    assert allowed_packages({}) == {"monai.networks.nets"}
    assert allowed_packages({VARIABLE: " mylab, other.nets ,,"}) == {"monai.networks.nets", "mylab", "other.nets"}
    with pytest.raises(ModelError, match=f"odd_networks:Plain is not allowed.*set {VARIABLE}=odd_networks"):
        call_constructor("odd_networks:Plain", {})
    monkeypatch.setenv(VARIABLE, "odd_networks")
    assert isinstance(call_constructor("odd_networks:Plain", {"outputs": 3}), Plain)
    assert isinstance(call_constructor("odd_networks:plain", {"channels": 3}), Plain)


@pytest.mark.parametrize(
    "constructor",
    [
        "os:system",
        "subprocess:run",
        "builtins:exec",
        "torch.hub:load",
        "monai:config",
        "monai.bundle:run",
        "monai.networks.netsx:UNet",
        "pipeline.model.unet:UNet",
    ],
)
def test_what_is_not_allowed_is_not_even_imported(constructor, monkeypatch):
    module = constructor.partition(":")[0]
    for name in [
        name for name in sys.modules if name == module and name.startswith(("monai.bundle", "torch.hub"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    before = set(sys.modules)
    with pytest.raises(ModelError, match=f"not allowed.*{VARIABLE}"):
        call_constructor(constructor, {"command": "false"})
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("constructor", "said"),
    [
        ("odd_networks:borrowed", "defined in subprocess, which is not allowed"),
        ("odd_networks:nn", "neither a torch.nn.Module class nor a function"),
        ("odd_networks:NOT_CALLABLE", "neither a torch.nn.Module class nor a function"),
        ("odd_networks:Any", "neither a torch.nn.Module class nor a function"),
        ("odd_networks:nothing", "odd_networks has no 'nothing'"),
        ("odd_networks:os.system", r"odd_networks has no 'os\.system'"),
        ("odd_networks:__dict__", "odd_networks has no '__dict__'"),
        ("odd_networks.inner:Net", r"odd_networks\.inner cannot be imported"),
        ("odd_networks:something", "makes a int, not a torch.nn.Module"),
        ("odd_networks:fail", "fails with no arguments: LookupError: out of layers"),
        ("odd_networks:Lazy", r"lazy layers.*layer\.weight"),
    ],
)
def test_only_plain_constructors_of_networks_are_called(constructor, said):
    with pytest.raises(ModelError, match=said):
        call_constructor(constructor, {}, allowed=ODD)


def test_wrong_arguments_are_said():
    with pytest.raises(ModelError, match=r"UNet fails with spatial_dims=2: TypeError: .*missing.*in_channels"):
        call_constructor(CONSTRUCTOR, {"spatial_dims": 2})


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(ModelError, match=r"package absentlab, which is not installed: install absentlab"):
        call_constructor("absentlab.nets:Net", {}, allowed=frozenset({"absentlab"}))


def test_a_module_that_fails_is_said(tmp_path, monkeypatch):
    (tmp_path / "broken_network.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="broken_network cannot be imported: ZeroDivisionError"):
        call_constructor("broken_network:Net", {}, allowed=frozenset({"broken_network"}))


def test_code_in_a_checkpoint_is_run_only_by_its_digest():
    constructor = f"{code_name(SOURCE)}:Blur"
    with pytest.raises(ModelError, match=f"carries .*{DIGEST}.*not allowed.*{VARIABLE}={DIGEST}"):
        call_constructor(constructor, {"channels": 2}, code=SOURCE)
    allowed = frozenset({DIGEST})
    built = call_constructor(constructor, {"channels": 2}, code=SOURCE, allowed=allowed)
    assert built(torch.zeros(1, 1, 8, 8)).shape == (1, 2, 8, 8)
    assert type(built).__module__ == f"_overtile_{code_name(SOURCE)}"
    assert isinstance(call_constructor(constructor, {"channels": 1}, code=SOURCE, allowed=allowed), type(built))
    for other in (None, SOURCE + b"\n"):
        with pytest.raises(ModelError, match="is not in the checkpoint, or was changed"):
            call_constructor(constructor, {"channels": 2}, code=other, allowed=allowed)


def test_code_that_cannot_be_run_is_said():
    code = b"from . import layers"
    name = code_name(code)
    with pytest.raises(ModelError, match=r"cannot be run: ImportError.*It must be one file"):
        call_constructor(f"{name}:Net", {}, code=code, allowed=frozenset({name.replace("_", ":")}))
    assert f"_overtile_{name}" not in sys.modules


def test_checking_alone_runs_nothing():
    check_allowed(CONSTRUCTOR, allowed_packages({}))
    with pytest.raises(ModelError, match="os:system is not allowed"):
        check_allowed("os:system", allowed_packages({}))
