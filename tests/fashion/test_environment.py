import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import PIL
import pytest
import scipy
import sklearn

from fashion.environment import cpu_model, environment

SETTINGS = [
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "ONEDNN_MAX_CPU_ISA",
]


def test_has_all_that_the_bits_depend_on_and_repeats_itself():
    found = environment()
    assert list(found) == ["python", "packages", "system", "cpu", "instruction_set", "settings"]
    assert found["python"] == sys.version.split()[0]
    assert found["system"] == f"{os.uname().sysname} {os.uname().machine}"
    assert found == environment()


def test_is_plain_json():
    assert json.loads(json.dumps(environment(), allow_nan=False)) == environment()


def test_versions_are_those_of_the_imported_packages():
    packages = environment()["packages"]
    imported = {"numpy": np, "h5py": h5py, "pandas": pd, "pillow": PIL, "scipy": scipy, "scikit-learn": sklearn}
    assert {name: packages[name] for name in imported} == {name: module.__version__ for name, module in imported.items()}


@pytest.mark.parametrize("name", ["tensorflow", "keras", "matplotlib", "dvc"])
def test_versions_are_those_installed(name):
    assert environment()["packages"][name] == version(name)


def test_settings_are_the_variables_that_are_set_and_no_others(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert environment()["settings"] == {}
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HOSTNAME", "somewhere")  # a host's name would make each machine's results differ
    assert environment()["settings"] == {"OMP_NUM_THREADS": "1", "TF_ENABLE_ONEDNN_OPTS": "0"}


@pytest.mark.parametrize("name", SETTINGS)
def test_each_variable_is_seen(monkeypatch, name):
    monkeypatch.setenv(name, "2")
    assert environment()["settings"][name] == "2"


def test_cpu_model_is_a_name_that_the_operating_system_gives():
    assert cpu_model()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and "model name" in cpuinfo.read_text():
        assert f": {cpu_model()}\n" in cpuinfo.read_text()


def test_instruction_set_is_a_list_of_names():
    assert all(isinstance(name, str) and name for name in environment()["instruction_set"])


def test_a_processor_without_any_extension_has_an_empty_instruction_set():
    disabled = " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
    result = subprocess.run(
        [sys.executable, "-c", "from fashion.environment import environment; print(environment()['instruction_set'])"],
        env=os.environ | {"NPY_DISABLE_CPU_FEATURES": disabled}, capture_output=True, text=True,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "[]\n")
