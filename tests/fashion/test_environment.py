import json
import os
import platform
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

from fashion import environment as module
from fashion.model.environment import (
    PORTABLE,
    arithmetic,
    cpu_model,
    describe_environment,
    is_native_by_choice,
    native_arithmetic,
    record_environment,
    set_portable_arithmetic,
)

SETTINGS = [
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "ONEDNN_MAX_CPU_ISA",
]
PORTABLE_HERE = PORTABLE if platform.machine() == "x86_64" else {"TF_NUM_INTRAOP_THREADS": "1"}


@pytest.fixture
def on_x86_64(monkeypatch):
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")


def test_has_all_that_the_bits_depend_on_and_repeats_itself():
    found = describe_environment()
    assert list(found) == ["python", "packages", "system", "cpu", "instruction_set", "settings"]
    assert found["python"] == sys.version.split()[0]
    assert found["system"] == f"{os.uname().sysname} {os.uname().machine}"
    assert found == describe_environment()


def test_is_plain_json():
    assert json.loads(json.dumps(describe_environment(), allow_nan=False)) == describe_environment()


def test_versions_are_those_of_the_imported_packages():
    packages = describe_environment()["packages"]
    imported = {
        "numpy": np,
        "h5py": h5py,
        "pandas": pd,
        "pillow": PIL,
        "scipy": scipy,
        "scikit-learn": sklearn,
    }
    assert {name: packages[name] for name in imported} == {
        name: module.__version__ for name, module in imported.items()
    }


@pytest.mark.parametrize("name", ["tensorflow", "keras", "matplotlib", "dvc"])
def test_versions_are_those_installed(name):
    assert describe_environment()["packages"][name] == version(name)


def test_settings_are_the_variables_that_are_set_and_no_others(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert describe_environment()["settings"] == PORTABLE_HERE
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # a host's name would make each machine's results differ
    monkeypatch.setenv("HOSTNAME", "somewhere")
    assert describe_environment()["settings"] == PORTABLE_HERE | {
        "OMP_NUM_THREADS": "1",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }


def test_arithmetic_is_portable_unless_the_user_says_otherwise(on_x86_64):
    variables = {}
    set_portable_arithmetic(variables)
    assert variables == {
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "TF_NUM_INTRAOP_THREADS": "1",
    }
    assert native_arithmetic(variables) is None and native_arithmetic({}) is None
    variables = {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}
    set_portable_arithmetic(variables)
    assert (
        variables["ONEDNN_MAX_CPU_ISA"] == "DEFAULT" and variables["TF_ENABLE_ONEDNN_OPTS"] == "1"
    )
    assert native_arithmetic(variables) == "native arithmetic (ONEDNN_MAX_CPU_ISA=DEFAULT)"


def test_metrics_say_what_the_user_has_chosen_and_nothing_else(on_x86_64, monkeypatch):
    for name in PORTABLE:
        monkeypatch.delenv(name, raising=False)
    assert (arithmetic(), is_native_by_choice()) == ({}, False)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert (
        arithmetic() == {"arithmetic": "native arithmetic (TF_ENABLE_ONEDNN_OPTS=0)"}
        and is_native_by_choice()
    )


def test_another_kind_of_machine_has_no_settings_of_onednn_and_is_named(monkeypatch):
    monkeypatch.setattr(module.platform, "machine", lambda: "aarch64")
    variables = {}
    set_portable_arithmetic(variables)
    # alike on all machines of its kind, at least
    assert variables == {"TF_NUM_INTRAOP_THREADS": "1"}
    assert native_arithmetic(variables) == "native arithmetic (aarch64)"
    assert not is_native_by_choice()


def test_the_record_changes_only_when_the_model_does(tmp_path):
    record, model = tmp_path / "environment.json", tmp_path / "model.keras"
    model.write_bytes(b"first")
    record_environment(record, model)
    recorded = json.loads(record.read_text())
    assert (
        recorded["model_md5"] == "8b04d5e3775d298e78455efc5ca404d5"
        and recorded["cpu"] == cpu_model()
    )
    elsewhere = json.dumps(recorded | {"cpu": "another"})
    record.write_text(elsewhere)
    record_environment(record, model)
    assert record.read_text() == elsewhere
    model.write_bytes(b"second")
    record_environment(record, model)
    assert json.loads(record.read_text())["cpu"] == cpu_model()


@pytest.mark.parametrize("damaged", ["", "{", "[]", "{}", "7"])
def test_a_damaged_record_is_written_again(tmp_path, damaged):
    record, model = tmp_path / "environment.json", tmp_path / "model.keras"
    model.write_bytes(b"first")
    record.write_text(damaged)
    record_environment(record, model)
    assert json.loads(record.read_text())["cpu"] == cpu_model()


@pytest.mark.parametrize("name", SETTINGS)
def test_each_variable_is_seen(monkeypatch, name):
    monkeypatch.setenv(name, "2")
    assert describe_environment()["settings"][name] == "2"


def test_cpu_model_is_a_name_that_the_operating_system_gives():
    assert cpu_model()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and "model name" in cpuinfo.read_text():
        assert f": {cpu_model()}\n" in cpuinfo.read_text()


def test_instruction_set_is_a_list_of_names():
    assert all(isinstance(name, str) and name for name in describe_environment()["instruction_set"])


def test_a_processor_without_any_extension_has_an_empty_instruction_set():
    disabled = " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
    program = (
        "from fashion.model.environment import describe_environment;"
        " print(describe_environment()['instruction_set'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"NPY_DISABLE_CPU_FEATURES": disabled}, capture_output=True, text=True,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "[]\n")
