import re
from collections.abc import Mapping
from importlib.metadata import packages_distributions

import pytest

from fashion.core import environment as module
from fashion.core.environment import (
    ALWAYS,
    PORTABLE,
    PORTABLE_X86_64,
    check_cpu,
    environment,
    is_pinned,
    pinned_versions,
    set_environment,
)
from fashion.core.errors import UserError
from fashion.core.strict_yaml import read_yaml
from tests.support.repository import PROJECT
from tests.test_layers import imports

THREE = {"TF_NUM_INTRAOP_THREADS": "3", "TF_NUM_INTEROP_THREADS": "3", "OMP_NUM_THREADS": "3"}


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request, monkeypatch) -> str:
    monkeypatch.setattr(module.platform, "machine", lambda: request.param)
    return request.param


@pytest.fixture(autouse=True)
def pinned(monkeypatch) -> None:
    monkeypatch.delenv("ARITHMETIC", raising=False)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, PORTABLE),
        ({"ARITHMETIC": "portable", "ARITHMETIC_THREADS": "3"}, THREE | PORTABLE),
        ({"ARITHMETIC": "native"}, {}),
        ({"ARITHMETIC": "native", "ARITHMETIC_THREADS": "3"}, THREE),
    ],
)
def test_what_libraries_read_is_replaced_and_the_rest_stays(machine, chosen, expected):
    if machine == "x86_64" and chosen.get("ARITHMETIC") != "native":
        expected = expected | PORTABLE_X86_64
    foreign = {"OMP_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": "0", "KERAS_BACKEND": "torch"}
    variables = chosen | foreign | {"TF_ENABLE_ONEDNN_OPTS": "0", "HOME": "/home/me"}
    set_environment(variables)
    assert variables == chosen | {"HOME": "/home/me"} | ALWAYS | expected


def test_metrics_name_what_is_not_pinned_or_portable(machine, monkeypatch):
    found = [] if machine == "x86_64" else ["arithmetic of aarch64"]
    assert environment() == ({"environment": found[0]} if found else {})
    assert is_pinned()
    monkeypatch.setenv("ARITHMETIC", "native")
    versions = pinned_versions() | {"numpy": "1.0", "keras": None}
    monkeypatch.setattr(module, "installed_version", versions.get)
    pinned_versions_ = {name: pinned_versions()[name] for name in ("numpy", "keras")}
    texts = [f"numpy 1.0, not {pinned_versions_['numpy']}"]
    texts += [f"keras None, not {pinned_versions_['keras']}"]
    assert environment() == {"environment": "; ".join(["native arithmetic", *found, *texts])}
    assert is_pinned() == (machine != "x86_64")


def test_an_unknown_choice_is_refused(monkeypatch):
    monkeypatch.setenv("ARITHMETIC", "fast")
    with pytest.raises(UserError, match="ARITHMETIC is fast: portable or native"):
        environment()


def test_a_cpu_without_avx2_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu avx avx2 fma\n")
    check_cpu(cpuinfo)
    cpuinfo.write_text("flags\t\t: fpu avx fma\n")
    with pytest.raises(UserError, match="no AVX2 instructions"):
        check_cpu(cpuinfo)


def test_the_pins_are_the_versions_of_requirements_txt():
    text = (PROJECT / "requirements.txt").read_text()
    compiled = dict(re.findall(r"^([\w-]+)==([\w.]+)", text, re.MULTILINE))
    assert pinned_versions() == {name: compiled[name] for name in pinned_versions()}
    included = re.findall(r"^-r (.*)", (PROJECT / "requirements.in").read_text(), re.MULTILINE)
    assert [PROJECT / path for path in sorted(included)] == module.PINS


@pytest.fixture(scope="module")
def packages_of() -> Mapping[str, list[str]]:
    """The installed packages by what is imported from them; it takes seconds to find out."""
    return packages_distributions()


@pytest.mark.parametrize("stage", ["validate", "fetch", "prepare", "train", "evaluate", "plot"])
def test_what_a_stage_imports_is_pinned_in_a_folder_that_it_declares(stage, packages_of):
    deps = [PROJECT / path for path in read_yaml(PROJECT / "dvc.yaml")["stages"][stage]["deps"]]
    code = [file for path in deps for file in (path, *path.rglob("*.py")) if file.suffix == ".py"]
    pins = [path / "requirements.txt" for path in deps if (path / "requirements.txt").exists()]
    pinned = {line.split("==")[0] for path in pins for line in path.read_text().splitlines()}
    modules = {name.split(".")[0] for file in code for name in imports(file.read_text())}
    packages = {name for one in modules for name in packages_of.get(one, [])}
    packages = {name.lower().replace("_", "-").replace(".", "-") for name in packages}
    checked = (
        {"requests", "tqdm", "urllib3"} if stage == "fetch" else set()
    )  # its files by their SHA-256
    typing_only = set() if pinned & {"pandas"} else {"pandas"}  # of fashion/core/files.py
    assert packages - typing_only - checked <= pinned
