"""A stage reads and writes exactly what dvc.yaml declares for it."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest

from fashion.core.strict_yaml import read_yaml
from tests.stages.running import run_stage
from tests.support.repository import PROJECT, STAGES

DEFINITIONS = read_yaml(PROJECT / "dvc.yaml")["stages"]
PINS = {f"fashion/{folder}/requirements.txt" for folder in ("core", "model", "plots")}
CONFIGURATION = {"dvc.yaml", "params.yaml"} | PINS  # every stage reads these


def declared(stage: str) -> dict[str, set[str]]:
    """Return the declared paths by what an audit calls them, and the params."""

    def names(*kinds: str) -> set[str]:
        entries = [entry for kind in kinds for entry in DEFINITIONS[stage].get(kind, [])]
        return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}

    code = {path for path in names("deps") if path.startswith(("stages/", "fashion/"))}
    return {
        "imported": code,
        "read": names("deps") - code,
        "written": names("outs", "metrics", "plots"),
        "params": names("params"),
    }


def covers(entry: str, path: str) -> bool:
    """Tell whether `path` is the declared file, in the declared folder, or a part of either."""
    finished = path.replace("saved-", "").replace(".part", "")
    return f"{finished}/".startswith(f"{entry}/")


def differences(folder: Path) -> tuple[dict, dict]:
    """Return what each stage that was audited does undeclared, and what each declares unused."""
    undeclared, unused = {}, {}
    for stage, seen in json.loads((folder / ".dvc/tmp/audit.json").read_text()).items():
        known = declared(stage)
        allowed = known | {"read": known["read"] | known["written"] | CONFIGURATION}
        undeclared[stage] = [
            f"{kind} {path}"
            for kind, paths in seen.items()
            for path in paths
            if not any(covers(entry, path) for entry in allowed[kind])
        ]
        unused[stage] = [
            entry
            for kind, paths in seen.items()
            for entry in known[kind]
            if not any(covers(entry, path) for path in paths)
        ]
    return undeclared, unused


def test_stages_do_what_they_declare(built):
    undeclared, unused = differences(built)
    assert undeclared == {stage: [] for stage in STAGES}
    # data/params.valid is declared only for the order
    assert unused == {stage: [] for stage in STAGES} | {"prepare": ["data/params.valid"]}


@pytest.mark.parametrize(("arithmetic", "isa"), [("native", None), ("portable", "AVX2")])
def test_the_arithmetic_of_params_yaml_is_set_before_numpy_is_imported(toy, arithmetic, isa):
    toy.set(f"arithmetic={arithmetic}")
    (toy.folder / "stages/__init__.py").write_bytes((PROJECT / "stages/__init__.py").read_bytes())
    program = "import os, sys, stages; print('numpy' in sys.modules, {**os.environ})"
    printed = toy.run(sys.executable, "-c", program, ARITHMETIC="of the user")
    imported, variables = printed.split(" ", 1)
    assert imported == "False" and ast.literal_eval(variables).get("ONEDNN_MAX_CPU_ISA") == isa


def test_native_results_say_so_and_make_only_their_stages_stale(repository, monkeypatch):
    monkeypatch.setattr("fashion.model.backend.device", lambda: {"device": "A GPU"})
    repository.set("arithmetic=native")
    assert {"train", "evaluate"} == json.loads(repository.dvc("status", "--json")).keys() - {
        "validate"
    }
    for stage, metrics in (("train", "train"), ("evaluate", "test")):
        run_stage(repository.folder, stage)
        found = json.loads(repository.read(f"metrics/{metrics}.json"))
        assert (found["environment"], found["device"]) == ("native arithmetic", "A GPU")


def test_a_stage_writes_nothing_with_another_version_of_a_package(repository, monkeypatch):
    before = repository.results()
    monkeypatch.setattr("fashion.core.environment.installed_version", lambda package: "0")
    output = run_stage(repository.folder, "train")
    assert output.startswith("train: the environment has numpy 0, not ")
    assert "keras 0, not 3." in output and "`pip install -r requirements.txt`" in output
    assert repository.results() == before


CHEATS = {
    "open('plots/history.csv').close()": "read plots/history.csv",
    "open('metrics/extra.json', 'w').close()": "written metrics/extra.json",
    "open('metrics/test.json', 'a').close()": "written metrics/test.json",
    "import os; os.close(os.open('notes.txt', os.O_CREAT | os.O_WRONLY))": "written notes.txt",
    "import fashion.preprocessing": "imported fashion/preprocessing.py",
}


def test_a_stage_that_does_more_than_it_declares_is_caught(repository):
    path, begin = repository.folder / "stages/prepare.py", "    raw, prepared, names ="
    source = path.read_text()
    assert begin in source
    path.write_text(source.replace(begin, "".join(f"    {cheat}\n" for cheat in CHEATS) + begin))
    script = str(Path(__file__).with_name("audit.py"))
    repository.run(sys.executable, script, ".dvc/tmp/audit.json", "prepare")
    assert sorted(differences(repository.folder)[0]["prepare"]) == sorted(CHEATS.values())


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_declares_the_params_that_it_reads(stage):
    source = (PROJECT / f"stages/{stage}.py").read_text()
    read = set(re.findall(r"\bparams\.([a-z_]+)", source)) - {"yaml"}
    assert read == {entry.split(".")[0] for entry in declared(stage)["params"]}


def test_every_stage_has_a_description_and_all_params_are_checked_first():
    for name, definition in DEFINITIONS.items():
        assert definition["desc"] and definition["cmd"] == f"python -BEs -m stages.{name}"
    assert DEFINITIONS["validate"]["params"] == [{"params.yaml": None}]  # the whole file
    assert DEFINITIONS["validate"]["outs"][0] in DEFINITIONS["prepare"]["deps"]
