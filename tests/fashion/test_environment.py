import re
from importlib.metadata import packages_distributions

import pytest

from fashion.core import environment as module
from fashion.core.environment import (
    check_environment,
    environment,
    pinned_versions,
    set_environment,
)
from fashion.core.errors import UserError
from fashion.core.strict_yaml import read_yaml
from tests.support.repository import PROJECT
from tests.test_layers import imports

# https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
ALWAYS = {"KERAS_HOME": "/dev/null", "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "1"}
PORTABLE = {"CUDA_VISIBLE_DEVICES": "-1", "TF_NUM_INTRAOP_THREADS": "1"}
PORTABLE_X86_64 = {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"}
THREE = {"TF_NUM_INTRAOP_THREADS": "3", "TF_NUM_INTEROP_THREADS": "3", "OMP_NUM_THREADS": "3"}


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request, monkeypatch) -> str:
    """Return the kind of machine that Python seems to run on."""
    monkeypatch.setattr(module.platform, "machine", lambda: request.param)
    return request.param


@pytest.mark.parametrize(
    ("arithmetic", "own", "expected"),
    [
        ("portable", {}, PORTABLE),
        ("portable", {"ARITHMETIC_THREADS": "3"}, THREE | PORTABLE),
        ("native", {"ARITHMETIC_THREADS": "3"}, THREE),
    ],
)
def test_variables_of_libraries_are_replaced_and_others_stay(machine, arithmetic, own, expected):
    if machine == "x86_64" and arithmetic == "portable":
        expected = expected | PORTABLE_X86_64
    own = own | {"HOME": "/home/me"}
    foreign = {"OMP_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": "0", "KERAS_BACKEND": "torch"}
    variables = own | foreign | {"TF_ENABLE_ONEDNN_OPTS": "0", "ARITHMETIC": "of the user"}
    set_environment(arithmetic, variables)
    expected = own | ALWAYS | expected | {"ARITHMETIC": arithmetic}
    assert variables == expected
    set_environment(variables=variables)  # as fashion/model/backend.py does
    assert variables == expected


def test_metrics_name_what_is_not_portable(machine):
    found = [] if machine == "x86_64" else ["arithmetic of aarch64"]
    assert environment("portable") == ({"environment": found[0]} if found else {})
    assert environment("native") == {"environment": "; ".join(["native arithmetic", *found])}


def test_other_versions_than_the_pinned_ones_are_refused(monkeypatch):
    check_environment()
    assert module.installed_version("absent") is None
    pins = pinned_versions()
    monkeypatch.setattr(module, "installed_version", (pins | {"numpy": "1", "keras": None}).get)
    found = f"numpy 1, not {pins['numpy']}; no keras {pins['keras']}"
    with pytest.raises(UserError, match=f"{found}. `pip install -r requirements.txt`"):
        check_environment()


def test_a_cpu_without_avx2_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu avx avx2 fma\n")
    check_environment(cpuinfo)
    cpuinfo.write_text("flags\t\t: fpu avx fma\n")
    with pytest.raises(UserError, match="no AVX2 instructions"):
        check_environment(cpuinfo)


def test_the_pins_are_the_versions_of_requirements_txt():
    text = (PROJECT / "requirements.txt").read_text()
    compiled = dict(re.findall(r"^([\w-]+)==([\w.]+)", text, re.MULTILINE))
    assert pinned_versions() == {name: compiled[name] for name in pinned_versions()}
    included = re.findall(r"^-r (.*)", (PROJECT / "requirements.in").read_text(), re.MULTILINE)
    assert [PROJECT / path for path in sorted(included)] == module.PINS


def test_a_stage_imports_only_packages_that_a_folder_it_declares_pins():
    packages_of, unpinned = packages_distributions(), {}
    for stage, definition in read_yaml(PROJECT / "dvc.yaml")["stages"].items():
        deps = [PROJECT / path for path in definition["deps"]]
        code = [file for path in deps for file in (path, *path.rglob("*.py"))]
        sources = [file.read_text() for file in code if file.suffix == ".py"]
        pins = [path / "requirements.txt" for path in deps if (path / "requirements.txt").exists()]
        pinned = {line.split("==")[0] for path in pins for line in path.read_text().splitlines()}
        modules = {name.split(".")[0] for source in sources for name in imports(source)}
        packages = {name for one in modules for name in packages_of.get(one, [])}
        unpinned[stage] = {re.sub(r"[_.]", "-", name.lower()) for name in packages} - pinned
    unpinned["fetch"] -= {"requests", "tqdm", "urllib3"}  # its files are checked by their SHA-256
    # files.py imports pandas in read_csv, which these do not call
    without_tables = {stage: {"pandas"} for stage in ("validate", "fetch", "prepare")}
    assert {stage: names for stage, names in unpinned.items() if names} == without_tables
