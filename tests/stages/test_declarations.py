"""A stage reads and writes what dvc.yaml declares for it, and nothing else.

And it declares nothing that it does not use.
"""

import json
import re
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

STAGES = ["validate", "fetch", "prepare", "train", "evaluate", "plot"]
CODE = ("stages/", "fashion/")
AUDIT = Path(__file__).with_name("audit.py")


def declared(repository, stage: str) -> dict:
    definition = YAML(typ="safe").load(repository.read("dvc.yaml"))["stages"][stage]

    def paths(kind):
        return {
            entry if isinstance(entry, str) else next(iter(entry))
            for entry in definition.get(kind, [])
        }

    return {
        "code": {path for path in paths("deps") if path.startswith(CODE)},
        "inputs": {path for path in paths("deps") if not path.startswith(CODE)},
        "outputs": paths("outs")
        | paths("metrics")
        | paths("plots")
        | set(definition.get("meta", {}).get("records", [])),
        "params": paths("params"),
    }


def covered(path: str, declarations: set[str]) -> bool:
    """Tell whether `path` is one of the declared files or a file in a declared folder.

    Either counts while it is being written, too.
    """
    finished = path.replace("saved-", "").replace(".part", "")
    return any(finished == entry or finished.startswith(f"{entry}/") for entry in declarations)


def audit(repository, stage: str) -> tuple[list[str], dict]:
    """What the stage does beyond its declarations, as sentences, and what it was seen to do."""
    report = repository.folder.parent / "audit.json"
    repository.run(sys.executable, str(AUDIT), stage, str(report))
    seen, known = json.loads(report.read_text()), declared(repository, stage)
    code = [path for path in seen["read"] if path.endswith(".py")]
    data = [
        path
        for path in seen["read"]
        if not path.endswith(".py") and path not in ("dvc.yaml", "params.yaml")
    ]
    problems = [
        f"reads {path}" for path in data if not covered(path, known["inputs"] | known["outputs"])
    ]
    problems += [
        f"writes {path}" for path in seen["written"] if not covered(path, known["outputs"])
    ]
    problems += [
        f"imports {path}"
        for path in sorted({*seen["imported"], *code})
        if not covered(path, known["code"])
    ]
    return problems, seen


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_does_what_it_declares_and_all_of_it(repository, stage):
    # a record that holds is not written again, so it goes first
    (repository.folder / "metrics/environment.json").unlink()
    problems, seen = audit(repository, stage)
    assert problems == []
    known = declared(repository, stage)
    imported = {
        entry for entry in known["code"] if any(covered(path, {entry}) for path in seen["imported"])
    }
    assert imported == known["code"]
    known["inputs"] -= {"data/params.valid"}  # declared for the order alone
    used = {
        entry for entry in known["inputs"] if any(covered(path, {entry}) for path in seen["read"])
    }
    assert used == known["inputs"]
    made = {
        entry
        for entry in known["outputs"]
        if any(covered(path, {entry}) for path in seen["written"])
    }
    assert made == known["outputs"]


CHEATS = {
    "open('plots/history.csv').close()": "reads plots/history.csv",
    "open('metrics/extra.json', 'w').close()": "writes metrics/extra.json",
    "open('metrics/test.json', 'a').close()": "writes metrics/test.json",
    "import os; os.close(os.open('notes.txt', os.O_CREAT | os.O_WRONLY))": "writes notes.txt",
    "import fashion.synthetic": "imports fashion/synthetic.py",
}


def test_a_stage_that_cheats_is_caught_each_time(repository):
    path, cheats = repository.folder / "stages/prepare.py", "".join(f"    {c}\n" for c in CHEATS)
    source = path.read_text()
    assert "    raw, names =" in source
    path.write_text(source.replace("    raw, names =", f"{cheats}    raw, names ="))
    assert sorted(audit(repository, "prepare")[0]) == sorted(CHEATS.values())


def test_all_params_are_checked_first(repository):
    stages = YAML(typ="safe").load(repository.read("dvc.yaml"))["stages"]
    assert stages["validate"]["params"] == [{"params.yaml": None}]  # the whole file
    assert stages["validate"]["outs"][0] in stages["prepare"]["deps"]


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_declares_the_params_that_it_reads(repository, stage):
    source = repository.read(f"stages/{stage}.py").decode()
    read = set(re.findall(r"\bparams\.([a-z_]+(?:\.[a-z_]+)*)", source)) - {"yaml"}
    params = declared(repository, stage)["params"]
    assert [
        name for name in read if not any(f"{name}.".startswith(f"{entry}.") for entry in params)
    ] == []
    assert [
        entry for entry in params if not any(f"{name}.".startswith(f"{entry}.") for name in read)
    ] == []


def test_every_stage_says_what_it_does(repository):
    stages = YAML(typ="safe").load(repository.read("dvc.yaml"))["stages"]
    assert list(stages) == STAGES
    assert all(
        definition["desc"] and definition["cmd"] == f"python -B -m stages.{name}"
        for name, definition in stages.items()
    )
