"""What the gate reads of a pipeline, and the errors that name what it can't use."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fashion.core.errors import UserError
from tests.support.repository import IDENTITY, TOY
from tools.gate.review import edits_of_the_gate, is_unchanged
from tools.git import git, head
from tools.pipeline import Pipeline, Stage, changed_pins, read_pipeline

DVC_YAML = (TOY / "dvc.yaml").read_text()
BEFORE = {"gate.yaml": b"missed: 0.1\nmetrics: {old: {margin: 1}}\n", "gone.bin": b"\0"}
BEFORE |= {"metrics/noise.json": b"{}", "dvc.lock": b"stages: {}"}
AFTER = {"gate.yaml": b"missed: 0.2\nmetrics: {old: {margin: 1}, new: {margin: 1}}\n"}
AFTER |= {".ci/run": b"", ".dvc/config": b"", "requirements/dev.txt": b"", "README.md": b""}
AFTER |= {"tools/gate/judge.py": b"", "weights": b"\0", "module.pyc": b"", "stages/x.py": b""}
LOCK = b"stages: {a: {cmd: x, outs: [{path: data, md5: x}]}}"
AFTER |= {"dvc.lock": LOCK, "data/a": b"\0"}
OLD_PINS, NEW_PINS = "fashion/model/requirements.txt", "fashion/core/requirements.txt"
BEFORE[OLD_PINS] = AFTER[NEW_PINS] = b"numpy==2"


@pytest.fixture
def read(tmp_path):
    """Return a function that reads the pipeline of a dvc.yaml, alone in a repository."""

    def pipeline(text: str) -> Pipeline:
        subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
        for path, content in ((".dvc/config", ""), ("dvc.yaml", text), ("params.yaml", "seed: x")):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(content)
        return read_pipeline(tmp_path)

    return pipeline


def test_stages_know_their_order_and_what_they_depend_on(read, tmp_path, monkeypatch):
    monkeypatch.delenv("DVC_SITE_CACHE_DIR")
    frozen = "  zoo:\n    foreach: [a]\n    do: {frozen: true, cmd: echo, outs: [x]}\n  train:"
    late = "  late: {cmd: [a, b], deps: [metrics/test.json], outs: [y]}\n"
    pipeline = read(DVC_YAML.replace("  train:", f"{late}{frozen}"))
    names = [stage.name for stage in pipeline.stages]
    assert names == ["prepare", "zoo@a", "train", "evaluate", "late", "plot"]
    assert [pipeline.stages[i].commands for i in (1, 4)] == [["echo"], ["a", "b"]]
    assert [stage.name for stage in pipeline.data_stages] == ["prepare", "zoo@a"]
    assert [stage.name for stage in pipeline.scoring_stages] == ["evaluate"]
    assert [stage.name for stage in pipeline.learning_stages] == ["prepare", "train"]
    train = pipeline.model_stage
    assert train.name == "train" and train.params == ["seed", "arithmetic", "model", "train"]
    with pytest.raises(UserError, match="seed is not a whole number"):
        assert pipeline.seed
    assert (tmp_path / ".dvc/tmp/site/repo").exists()  # DVC's databases, instead of in /var/tmp


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (DVC_YAML, "", "names 0 artifacts of type model"),
        ("type: model}", "type: model}\n  other: {path: x, type: model}", "names 2 artifacts of"),
        (DVC_YAML, "stages:\n  train: 3\n", "DVC can't read the pipeline: 'dvc.yaml' va"),
        ("type: model", "type: data", "names 0 artifacts of type model"),
        ("{path: models/model.keras", "{path: models/x", "no stage of dvc.yaml makes models/x"),
        ("- models/model.keras", "- ../model.keras", "train writes ../model.keras, outside"),
    ],
)
def test_a_pipeline_that_cannot_be_judged_is_an_error(read, old, new, message):
    with pytest.raises(UserError, match=message):
        read(DVC_YAML.replace(old, new))


def test_tables_and_stages_that_cannot_be_made_again_are_an_error(read):
    pipeline = read(DVC_YAML)
    (pipeline.folder / "plots").mkdir()
    (pipeline.folder / "plots/history.csv").write_bytes(b"")
    with pytest.raises(UserError, match=r"one of history\.csv is not a CSV file: No columns"):
        pipeline.tables(pipeline.stages)
    (pipeline.folder / "added.dvc").write_text("outs:\n- path: added\n")  # as `dvc add` does it
    with pytest.raises(UserError, match=r"added\.dvc: has no command, so it can't be run"):
        read(DVC_YAML)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": NaN}', "train.json: a is nan, which is not finite"),
        ('{"a": 1' + "0" * 400 + "}", "train.json: a is 1000"),
        ("[" * 9999 + "]" * 9999, "train.json is not a metrics file"),
        ("[1]", "train.json is not a metrics file"),
        (None, "train.json is not a metrics file: .*No such file"),
    ],
)
def test_metrics_that_cannot_be_compared_are_an_error(read, content, message):
    pipeline = read(DVC_YAML)
    (pipeline.folder / "metrics").mkdir()
    if content:
        (pipeline.folder / "metrics/train.json").write_text(content)
    with pytest.raises(UserError, match=message):
        pipeline.metrics([pipeline.model_stage])


def test_a_review_lists_what_judges_the_change_and_what_nobody_can_read(tmp_path, monkeypatch):
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    commits = []
    for files in (BEFORE, AFTER):
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
        if commits:
            (tmp_path / "link").symlink_to("/etc")
            (tmp_path / "metrics/noise.json").unlink()
            (tmp_path / "gone.bin").unlink()
            (tmp_path / OLD_PINS).unlink()
            (tmp_path / "sub").mkdir()
            git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
        git("add", "--all")
        git("commit", "--quiet", "--message", "A commit")
        commits.append(head())
    assert edits_of_the_gate(*commits, None) == [
        "gate.yaml: missed: 0.1 -> 0.2",
        "gate.yaml: metrics.new.margin: None -> 1",
        "new is new in gate.yaml: None, judged from the next change on",
        ".ci/run",
        ".dvc/config",
        "link (a link)",
        f"metrics/noise.json can't be used: there is no metrics/noise.json of {commits[1][:7]},"
        " which `make noise` writes",
        "module.pyc (bytecode)",
        "requirements/dev.txt",
        "sub (a submodule)",
        "tools/gate/judge.py",
        "weights (binary)",
    ]
    assert changed_pins(*commits) == {OLD_PINS: b"", NEW_PINS: b"numpy==2"}
    assert not is_unchanged(*commits)
    (tmp_path / "README.md").write_text("Another text")
    for broken in ("metrics: [", ""):
        (tmp_path / "gate.yaml").write_text(broken)
        git("commit", "--quiet", "--all", "--message", "Broken")
        assert "gate.yaml: can't be compared: " in edits_of_the_gate(commits[1], head(), None)[0]
    git("checkout", "--quiet", commits[1], "gate.yaml")
    git("commit", "--quiet", "--all", "--message", "Repaired")
    assert is_unchanged(commits[1], head())
    (tmp_path / "gate.yaml").write_bytes(AFTER["gate.yaml"] + b"# A comment\n")
    git("commit", "--quiet", "--all", "--message", "A comment")
    assert not is_unchanged(commits[1], head())
    assert edits_of_the_gate(commits[1], head(), None) == []


def test_a_further_seed_runs_all_stages_from_the_first_that_declares_it(tmp_path):
    def stage(name: str, *params: str) -> Stage:
        before = frozenset("abcd"[: "abcd".index(name)])
        return Stage(name, [f"echo {name} >> ran"], Path(), [], [*params], [], [], before)

    (tmp_path / "clone").mkdir()
    (tmp_path / "clone/params.yaml").write_text("seed: 1\n")
    stages = [stage("a", "split_seed"), stage("b", "seed"), stage("c"), stage("d")]
    pipeline = Pipeline(tmp_path / "clone", stages, Path("model"), stages[-1])
    with pipeline.trained(3) as copy:
        assert (copy.folder / "ran").read_text().split() == ["b", "c", "d"]
        assert copy.seed == 3 and pipeline.seed == 1
    (pipeline.folder / "sub").mkdir()
    pipeline.run([replace(stages[0], folder=Path("sub"))])
    assert (pipeline.folder / "sub/ran").exists()
    (pipeline.folder / "old").touch()  # as Git has it
    with pytest.raises(UserError, match="stage a ended without writing old"):
        pipeline.run([replace(stages[0], outputs=[Path("ran"), Path("old")])])
