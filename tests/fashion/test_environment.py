import json
import os
import sys

import numpy as np
import pytest

from fashion.model import environment
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


@pytest.fixture
def on_x86_64(monkeypatch):
    monkeypatch.setattr(environment.platform, "machine", lambda: "x86_64")


def test_the_environment_is_described_as_json_by_versions_machine_and_settings(on_x86_64):
    found = describe_environment({"OMP_NUM_THREADS": "3", "HOSTNAME": "somewhere"})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == ["python", "packages", "system", "cpu", "instruction_set", "settings"]
    assert found["python"] == sys.version.split()[0]
    assert found["packages"]["numpy"] == np.__version__
    assert found["system"] == f"{os.uname().sysname} x86_64"
    assert found["instruction_set"] == np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    assert found["settings"] == PORTABLE | {"OMP_NUM_THREADS": "3"}  # and not the host's name


@pytest.mark.parametrize(
    ("chosen", "native"),
    [
        ({}, None),
        ({"TF_ENABLE_ONEDNN_OPTS": "1", "OMP_NUM_THREADS": "7"}, None),
        ({"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, "native arithmetic (ONEDNN_MAX_CPU_ISA=DEFAULT)"),
        ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "native arithmetic (TF_ENABLE_ONEDNN_OPTS=0)"),
    ],
)
def test_arithmetic_is_portable_unless_the_user_chooses_otherwise(
    on_x86_64, monkeypatch, chosen, native
):
    variables = dict(chosen)
    set_portable_arithmetic(variables)
    portable = {"TF_ENABLE_ONEDNN_OPTS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert variables == portable | {"TF_NUM_INTRAOP_THREADS": "1"} | chosen
    assert native_arithmetic(variables) == native_arithmetic(chosen) == native
    for name in PORTABLE:
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    assert arithmetic() == ({"arithmetic": native} if native else {})
    assert is_native_by_choice() == bool(native)


def test_another_kind_of_machine_has_no_settings_of_onednn_and_is_named(monkeypatch):
    monkeypatch.setattr(environment.platform, "machine", lambda: "aarch64")
    variables = {}
    set_portable_arithmetic(variables)
    assert variables == {"TF_NUM_INTRAOP_THREADS": "1"}
    assert native_arithmetic(variables) == "native arithmetic (aarch64)"
    assert not is_native_by_choice()


def test_the_record_changes_only_when_the_model_does(tmp_path):
    record, model = tmp_path / "environment.json", tmp_path / "model.keras"
    model.write_bytes(b"first")
    record_environment(record, model)
    recorded = json.loads(record.read_text())
    # by `printf first | md5sum`
    assert recorded["model_md5"] == "8b04d5e3775d298e78455efc5ca404d5"
    assert recorded["cpu"] == cpu_model()
    elsewhere = json.dumps(recorded | {"cpu": "another"})
    record.write_text(elsewhere)
    record_environment(record, model)
    assert record.read_text() == elsewhere
    model.write_bytes(b"second")
    record_environment(record, model)
    assert json.loads(record.read_text())["cpu"] == cpu_model()


@pytest.mark.parametrize("corrupted", ["", "[]", "{}"])
def test_a_corrupted_record_is_written_again(tmp_path, corrupted):
    record, model = tmp_path / "environment.json", tmp_path / "model.keras"
    model.write_bytes(b"first")
    record.write_text(corrupted)
    record_environment(record, model)
    assert json.loads(record.read_text())["cpu"] == cpu_model()
