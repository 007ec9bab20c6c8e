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
AUDIT = Path(__file__).with_name("audit.py")
PINS = {f"fashion/{folder}/requirements.txt" for folder in ("core", "model", "plots")}
CONFIGURATION = {"dvc.yaml", "params.yaml"} | PINS  # which every stage reads


def stages_of(folder: Path) -> dict:
    return YAML(typ="safe").load(folder / "dvc.yaml")["stages"]


def declared(folder: Path, stage: str) -> dict[str, set[str]]:
    """Return the declared paths by what an audit calls them, and the params."""
    definition = stages_of(folder)[stage]

    def paths(*kinds: str) -> set[str]:
        entries = [entry for kind in kinds for entry in definition.get(kind, [])]
        return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}

    code = {path for path in paths("deps") if path.startswith(("stages/", "fashion/"))}
    return {
        "imported": code,
        "read": paths("deps") - code,
        "written": paths("outs", "metrics", "plots"),
        "params": paths("params"),
    }


def covers(entry: str, path: str) -> bool:
    """Tell whether `path` is the declared file, or in the declared folder, or a part of either."""
    finished = path.replace("saved-", "").replace(".part", "")
    return f"{finished}/".startswith(f"{entry}/")


def audit(repository, stage: str) -> tuple[list[str], list[str]]:
    """Run a stage; return what it does beyond its declarations, and what it declares unused."""
    report = repository.folder.parent / "audit.json"
    repository.run(sys.executable, str(AUDIT), stage, str(report))
    seen, known = json.loads(report.read_text()), declared(repository.folder, stage)
    seen["imported"] += [path for path in seen["read"] if path.endswith(".py")]
    seen["read"] = [path for path in seen["read"] if not path.endswith(".py")]
    allowed = known | {"read": known["read"] | known["written"] | CONFIGURATION}
    beyond, unused = [], []
    for kind, paths in seen.items():
        beyond += [
            f"{kind} {path}" for path in paths if not any(covers(e, path) for e in allowed[kind])
        ]
        unused += [entry for entry in known[kind] if not any(covers(entry, path) for path in paths)]
    return sorted(set(beyond)), unused


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_does_what_it_declares_and_all_of_it(repository, stage):
    beyond, unused = audit(repository, stage)
    assert beyond == []
    # declared for the order alone
    assert unused == (["data/params.valid"] if stage == "prepare" else [])


CHEATS = {
    "open('plots/history.csv').close()": "read plots/history.csv",
    "open('metrics/extra.json', 'w').close()": "written metrics/extra.json",
    "open('metrics/test.json', 'a').close()": "written metrics/test.json",
    "import os; os.close(os.open('notes.txt', os.O_CREAT | os.O_WRONLY))": "written notes.txt",
    "import fashion.preprocessing": "imported fashion/preprocessing.py",
}


def test_a_stage_that_cheats_is_caught_each_time(repository):
    path, begin = repository.folder / "stages/prepare.py", "    raw, prepared, names ="
    source = path.read_text()
    assert begin in source
    path.write_text(source.replace(begin, "".join(f"    {cheat}\n" for cheat in CHEATS) + begin))
    assert audit(repository, "prepare")[0] == sorted(CHEATS.values())


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_declares_the_params_that_it_reads(built, stage):
    source = (built / f"stages/{stage}.py").read_text()
    read = set(re.findall(r"\bparams\.([a-z_]+)", source)) - {"yaml"}
    assert read == {entry.split(".")[0] for entry in declared(built, stage)["params"]}


def test_every_stage_says_what_it_does_and_all_params_are_checked_first(built):
    stages = stages_of(built)
    assert list(stages) == STAGES
    for name, definition in stages.items():
        assert definition["desc"] and definition["cmd"] == f"python -BEs -m stages.{name}"
    assert stages["validate"]["params"] == [{"params.yaml": None}]  # the whole file
    assert stages["validate"]["outs"][0] in stages["prepare"]["deps"]


def test_a_new_version_of_a_package_outdates_the_stages_that_import_it_and_no_other(repository):
    """`dvc status` names them, and whatever reads what they make."""
    for folder, stages in {
        "core": STAGES,
        "model": ["train", "evaluate"],
        "plots": ["plot"],
    }.items():
        pins = repository.folder / f"fashion/{folder}/requirements.txt"
        before = pins.read_text()
        pins.write_text(re.sub(r"==(\d+)", r"==9\1", before, count=1))
        assert [*json.loads(repository.dvc("status", "--json"))] == stages
        pins.write_text(before)
    assert json.loads(repository.dvc("status", "--json")) == {}
