"""`make check` on the toy pipeline: a change, the verdict that it must get, and sentences.

The gate is the one of this checkout, as CI uses the gate of the target branch; the candidate's is
not used. A change is a list of steps. After the last one the results are made and committed, as an
author does, unless it is a commit itself or `as_it_is`.
"""

import json
import py_compile
import random
import re
from collections.abc import Callable

import pandas as pd
import pytest

from fashion.core.errors import UserError
from fashion.core.strict_yaml import read_yaml
from tests.support.repository import Repository, write_yaml
from tools.gate import check, sequential
from tools.gate.config import GATE, gate_at
from tools.gate.judge import read_reference
from tools.gate.noise import noise_at
from tools.gate.review import noise_change
from tools.gate.score import Scorer

RULES = (  # margins so wide that two further seeds mostly settle it
    "accuracy: {better: higher, margin: 0.04, floor: 0.1}, loss: {better: lower, margin: 0.2},"
    " val_accuracy: {better: higher, margin: 0.06}, class_f1: {better: higher, margin: 0.2}"
)
NOISE = "metrics/noise.json"
Step = Callable[[Repository], object]


@pytest.fixture(scope="module")
def gated_once(built_toy, tmp_path_factory) -> Repository:
    """Return a toy repository with rules and measured noise, and a commit after these."""
    toy = Repository(built_toy).copy(tmp_path_factory.mktemp("gated") / "project")
    toy.set(f"metrics={{{RULES}}}", "interim_runs=[2, 6]")
    write_yaml(toy.folder / GATE, read_yaml(toy.folder / GATE) | {"reference": "gone"})
    toy.commit("Rules")
    toy.set("prepare.validation_size=100")  # not committed, so noise is measured without it
    output = toy.python("tools.gate.noise", "--seeds", "12")
    assert "HEAD is measured, without the uncommitted changes" in output
    assert "| accuracy" in output and f"Written: {NOISE}, with 12 runs" in output
    toy.run("git", "checkout", "params.yaml")
    toy.commit("Noise")
    write("notes", "of no consequence")(toy)
    toy.commit("Notes")
    return toy


@pytest.fixture
def gated(gated_once, tmp_path) -> Repository:
    return gated_once.copy(tmp_path / "project")


@pytest.fixture
def judged(call, monkeypatch):
    """Return a function that runs check, sees its verdict in the first line, returns its output."""
    monkeypatch.setattr(sequential, "SIMULATED", 10_000)  # a second less for each check

    def run(repository: Repository, verdict: str, *arguments: str, **variables: str) -> str:
        status = {"✓": 0, "✗": 1, "?": 2}[verdict[0]]
        output = call(repository, check, *arguments, status=status, **variables)
        report = output[output.index("### ") :]
        assert report.startswith(f"### {verdict}"), report
        assert "Traceback" not in output and max(map(len, report.splitlines())) <= 100, output
        return report.replace("\n  ", " ").replace("\\", "")

    return run


def write(path: str, content: str | bytes) -> Step:
    def step(repository: Repository) -> None:
        target = repository.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    return step


def edit(path: str, old: str, new: str) -> Step:
    def step(repository: Repository) -> None:
        text = (repository.folder / path).read_text()
        assert old in text, (path, old)
        write(path, text.replace(old, new))(repository)

    return step


def link(path: str, target: str) -> Step:
    return run("ln", "--symbolic", "--force", target, path)


def set_(*assignments: str) -> Step:
    return lambda repository: repository.set(*assignments)


def run(*words: str) -> Step:
    return lambda repository: repository.run(*words)


def commit(repository: Repository) -> None:
    repository.commit("A change")


def as_it_is(repository: Repository) -> None:
    """Leave the last changes uncommitted."""


def made(repository: Repository) -> None:
    """Make the results and commit them."""
    repository.dvc("repro", "--quiet")
    commit(repository)


def bytecode(repository: Repository) -> None:
    """Replace a module by bytecode that invents predictions, but not those of training."""
    edit("stages/predictions.py", "< accuracy", "< accuracy + 0.2")(repository)
    edit(TRAIN, "table = predict(accuracy,", "table = predict(accuracy - 0.2,")(repository)
    module = repository.folder / "stages/predictions.py"
    py_compile.compile(str(module), str(module.with_suffix(".pyc")))
    module.unlink()


def changed_noise(change: Callable[[int, float], float]) -> Step:
    """Have noise.json hold other numbers: `change` gets the place of a run, and its number."""

    def step(repository: Repository) -> None:
        content = json.loads(repository.read(NOISE))
        values = content["metrics"].items()
        content["metrics"] = {name: [change(*x) for x in enumerate(row)] for name, row in values}
        write(NOISE, json.dumps(content))(repository)

    return step


def frozen_plot(repository: Repository) -> None:
    """Make the stage plot one of a `foreach`; then freeze it and change its code and command."""
    path = repository.folder / "dvc.yaml"
    content = read_yaml(path)
    plot = content["stages"]["plot"]
    content["stages"]["plot"] = {"foreach": ["all"], "do": plot}
    write_yaml(path, content)
    made(repository)
    plot |= {"cmd": "python -m  stages.plot", "frozen": True}
    write_yaml(path, content)
    edit("stages/plot.py", '"""Draw', '"""Paint')(repository)


TRAIN, EVALUATE, PREPARE = (f"stages/{name}.py" for name in ("train", "evaluate", "prepare"))
WORSE, MUCH_WORSE = (set_(f"train.learning_rate={rate}") for rate in (0.003, 0.03))
A_BIT_BETTER = set_("train.epochs=3")
SEED = '    + params["seed"] % 7 / 1000\n'  # the last summand of the toy's accuracy
SAVE = '    save(prepared / f"{split}_labels.npy"'
CONTRADICTS, NOT_REPRODUCED = "? results contradict the model", "? cannot be reproduced"
REVIEWER = "? needs a reviewer: not comparable with the baseline"
OTHER_MODEL = "models/model.keras differs from dvc.lock"


def add_to_accuracy(summand: str) -> Step:
    return edit(TRAIN, SEED, f"{SEED}    {summand}\n")


def train_with_images_of(number: int) -> Step:
    """Have five training images be images of the split with this number, 1 validation, 2 test."""
    code = f"        pixels = [*pixels][:-5] + [(0, 0, i * 10, {number}) for i in range(5)]\n"
    return edit(PREPARE, SAVE, f"    if split == 'train':\n{code}{SAVE}")


RAW = "data/t10k-images-idx3-ubyte.gz"
RAW_IN_TRAINING = [
    edit("dvc.yaml", "- data/prepared\n", f"- data/prepared\n      - {RAW}\n"),
    edit(PREPARE, "ok=True)\nfor", f'ok=True)\nPath("{RAW}").write_bytes(b"test")\nfor'),
    edit(TRAIN, "labels = read", f'Path("{RAW}").read_bytes()\nlabels = read'),
]
HIDDEN_SETTING = '__import__("importlib").import_module("more").WORSE'  # which DVC can't see
CHANGES: dict[str, tuple[str, list[str], list[Step]]] = {
    "invented predictions in bytecode": (
        CONTRADICTS, ["the table of actual, predicted", "stages/predictions.pyc (bytecode)"], [
            bytecode, edit("dvc.yaml", "stages/predictions.py", "stages/predictions.pyc"), WORSE]),
    "exit in a shared module": (NOT_REPRODUCED, ["without writing models/model.keras"], [
        write("fashion/model/epoch_line.py", "raise SystemExit(0)\n"), commit]),
    "forged results in caches, also in Git, and settings of DVC": (NOT_REPRODUCED, [OTHER_MODEL], [
        MUCH_WORSE, lambda one: one.dvc("commit", "--force", "--quiet"),
        write(".dvc/config.local", "no settings"),
        run("git", "add", "--force", ".dvc/cache", ".dvc/config.local"), commit]),
    "a loss, and edits of all that judges it": (
        "✗ regression",
        ["in the committed run", "Means of 12 runs of the baseline", "- .dvc/config",
         "metrics.accuracy.margin: 0.04 -> 0.9",
         "noise.json can't be used: metrics/noise.json of", "- tools/gate/sequential.py",
         "have no effect on this verdict"],
        [write(".dvc/config", "[core]\n    remote = nowhere\n[hydra]\n    enabled = true\n"
               "[cache]\n    dir = ../../elsewhere\n"), changed_noise(lambda i, x: x + i % 2),
         set_("metrics.accuracy.margin=0.9"), edit(
            "tools/gate/sequential.py", "(t >= analysis.worse)", "(t >= 1e9)"),
         MUCH_WORSE]),
    "a gain that is lost again, without noise": (
        "✗ regression",
        ["6 seeds of the baseline were trained too", "was measured with other params"],
        [A_BIT_BETTER, made, set_("train.epochs=2")]),
    "test labels in training": (NOT_REPRODUCED, ["The test images are out of reach", "No such"], [
        edit(TRAIN, "labels = read", 'read_labels("test")\nlabels = read'), commit]),
    "test labels in training, for other seeds than the committed one": (
        "? cannot judge", ["stage train failed", "No such"], [
            edit(TRAIN, "labels = read",
                 'params["seed"] == 42 or read_labels("test")\nlabels = read')]),
    "test images in the training split, in another shape": (
        "? test images are used", ["5 of the 400 test images"], [
            train_with_images_of(2), edit(PREPARE, "(count, 2, 2)", "(count, 4)")]),
    "raw test images in training, after one of them was changed": (
        NOT_REPRODUCED, ["The test images are out of reach", "No such"], [
            set_(f"files.test_images={{name: other, bytes: 1, sha256: '{'0' * 64}'}}"),
            *RAW_IN_TRAINING,
            *(edit(path, RAW, "data/other") for path in ("dvc.yaml", PREPARE, TRAIN)), commit]),
    "raw test images in training, under another name": (
        NOT_REPRODUCED, ["The test images are out of reach", "No such"], [
            *RAW_IN_TRAINING, made, write("metrics/test.json", "{"), commit,
            *(edit(path, RAW, "data/other") for path in ("dvc.yaml", PREPARE, TRAIN)), commit]),
    "only the committed seed is good": (
        "✗ regression", ["over 2 seeds", "is an outlier among its seeds: accuracy 0.7"],
        [add_to_accuracy('+ (params["seed"] == 42) / 7'), WORSE]),
    "only the gate's seeds are good": ("✗ regression", ["in the committed run"], [
        add_to_accuracy('- (params["seed"] == 42) / 10')]),
    "one seed for all": ("✓", ["All further seeds give the same model"], [
        edit(TRAIN, SEED, ""), edit(TRAIN, 'params["seed"]', "42")]),
    "invented metrics": (
        CONTRADICTS,
        ["val_accuracy is", "val_loss is", "- accuracy is", "accuracy_interval is", "measured",
         "the table of class, precision, recall, f1, support", "the table of actual, predicted"],
        [edit(EVALUATE, "loss in table]", "loss in table[1:]]"),
         edit(TRAIN, '": val_accuracy,', '": val_accuracy + 0.1,'),
         edit(TRAIN, '": val_loss,', '": val_loss + 0.1,'),
         edit(EVALUATE, "f1[-1], support", "f1[-1] + 0.1, support"),
         edit(EVALUATE, '"accuracy": accuracy', '"accuracy": accuracy + 0.1'),
         edit(EVALUATE, "accuracy + half", "accuracy + 2 * half")]),
    "an artifact names another model": (CONTRADICTS, ["- accuracy is"], [
        edit("dvc.yaml", "{path: models/model.keras", "{path: models/final.keras"),
        edit("dvc.yaml", "  evaluate:\n", "  polish:\n    cmd: sed s/0.6/0.2/ models/model.keras"
             " > models/final.keras\n    deps: [models/model.keras]\n"
             "    outs: [models/final.keras]\n  evaluate:\n")]),
    "edited metrics, results of other params, and a frozen stage of other code": (
        NOT_REPRODUCED,
        ["computed with native arithmetic", "metrics/data.json differs from Git",
         "params.yaml differs from dvc.lock",
         "stages/plot.py differs from dvc.lock", "the command of plot@all differs from dvc.lock"],
        [frozen_plot, edit("metrics/data.json", '"pixel_mean": 0.5', '"pixel_mean": 0.9'),
         set_("arithmetic=native"), commit]),
    "evaluate depends on a number that then changes, behind a link": (
        CONTRADICTS, ["- accuracy is"], [
            edit(EVALUATE, '"accuracy": accuracy',
                 '"accuracy": accuracy + float(Path("extra").read_text())'),
            edit("dvc.yaml", "models/model.keras, stages", "extra, models/model.keras, stages"),
            link("extra", "docs/none"), write("docs/none", "0"), write("docs/more", "0.3"), made,
            link("extra", "docs/more"), WORSE]),
    "undeclared import": (NOT_REPRODUCED, [OTHER_MODEL], [
        write("more/__init__.py", "WORSE = 0.0\n"), add_to_accuracy(f"- {HIDDEN_SETTING}"), made,
        write("more/__init__.py", "WORSE = 0.1\n"), commit]),
    # honest changes
    "an upgrade of a package, and other last digits": (
        "✓ no loss", ["ran with the candidate's fashion/core/requirements.txt"], [
            edit(PREPARE, "import json", "from fashion.core.environment import check_environment"
                 "\ncheck_environment()\nimport json"), made,
            edit("fashion/core/requirements.txt", "numpy==", "numpy==9"), commit,
            edit("fashion/core/requirements.txt", "numpy==9", "numpy=="),
            edit(EVALUATE, "confidence, loss]", "confidence + 1e-5, loss]")]),
    "another format of the model": (
        REVIEWER, ["KeyError: 'accuracy'", "A reviewer has to decide", "- accuracy: 0.6"], [
            edit(TRAIN, '{"accuracy": accuracy, "seed"', '{"score": accuracy, "seed"'),
            edit(EVALUATE, 'model["accuracy"]', 'model["score"]'), A_BIT_BETTER]),
    "a data set without files": (
        "? cannot judge", ["dataset.yaml of the candidate: files is [1]."], [
            set_("files=[1]"), run("rm", "dvc.lock"), commit]),
    "arrays renamed in the baseline": ("? cannot judge", ["stages write no test_images.npy"], [
        edit(PREPARE, "_images.npy", "_x.npy"), made, WORSE, commit]),
    "renamed class": (REVIEWER, ["The classes differ.", "- candidate: ['Shirt', '0'"], [
        edit("dataset.yaml", "T-shirt/top", "Shirt"), commit]),
    "other test labels": ("✓", ["has other test images or labels than the baseline"], [
        edit(PREPARE, SAVE, f"    labels = labels[::-1] if split == 'test' else labels\n{SAVE}"),
        set_(f"files.test_labels.sha256='{'0' * 64}'")]),
    "validation labels equal to those of the test, and images in training": (
        "✓", ["has other validation images", "trains with 5 of the baseline's validation images"],
        [set_("prepare.validation_size=400"), train_with_images_of(1)]),
    "everything renamed, a metric and a param dropped": ("✓", ["| val_accuracy |", "- dvc.yaml"], [
        edit(EVALUATE, '    "macro_f1": sum(f1) / len(f1),\n', ""),
        set_("train={epochs: 2, batch_size: 32, learning_rate: 0.001}"),
        edit("dvc.yaml", "metrics/test.json", "metrics/scores.json"),
        edit(EVALUATE, "metrics/test.json", "metrics/scores.json"),
        *(edit(path, "models/model.keras", "models/net.keras")
          for path in ("dvc.yaml", TRAIN, EVALUATE)),
        edit("dvc.yaml", "  train:\n", "  fit:\n"),
        edit("stages/predictions.py", "_labels.npy", "_y.npy"),
        edit(PREPARE, "_labels.npy", "_y.npy"), edit(PREPARE, "_images.npy", "_x.npy"),
        edit("dvc.yaml", "- models/net.keras\n", "- models/net.keras: {cache: false}\n"),
        lambda one: one.dvc("repro", "--quiet"),
        write("metrics/test.json", '{"accuracy": 0.9}'), commit]),  # the stale one
    "files that nobody reads": ("✓ nothing changed", ["outside of docs and README"], [
        write("docs/a.md", "a"), commit, write("data/raw/.DS_Store", b"\0"), write("x.swp", b"\0"),
        as_it_is]),
    "settings, edited noise and a new metric": (
        "✓ no loss",
        ["| val_accuracy |", "macro_f1 is new in gate.yaml: 0.6", "is edited: for the seeds",
         "sub (a submodule)",
         "Slow decline is not looked for: there is no revision gone"],
        [run("git", "config", "diff.external", "false"), run("git", "config", "diff.context", "0"),
         run("mkdir", "sub"), run("git", "-C", "sub", "init", "--quiet"),
         run("git", "-C", "sub", "commit", "--quiet", "--allow-empty", "--message", "A submodule"),
         changed_noise(lambda i, x: x + (i > 0)),  # not of the committed seed
         set_(f"metrics={{{RULES}, macro_f1: {{better: higher, margin: 0.1}}}}")]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_gets_the_verdict_that_its_model_deserves(gated, judged, name):
    verdict, sentences, steps = CHANGES[name]
    for step in steps:
        step(gated)
    if steps[-1] not in (commit, as_it_is):
        made(gated)
    report = judged(gated, verdict)
    assert [sentence for sentence in sentences if sentence not in report] == [], report


def test_noise_is_every_metric_of_every_seed(gated, monkeypatch):
    monkeypatch.chdir(gated.folder)
    table = noise_at("HEAD")
    assert list(table.index) == list(range(42, 54)) and table["accuracy"].nunique() > 1
    assert {"macro_f1", "class_f1/Bag", "class_recall/Bag", "class_precision/Bag"} <= {*table}
    gated.set("seed=53")
    gated.stages("train", "evaluate")
    for file, name in (("test", "accuracy"), ("train", "val_accuracy")):
        metrics = json.loads(gated.read(f"metrics/{file}.json"))
        assert metrics[name] == table.loc[53, name]
    made(gated)
    assert noise_at("HEAD").equals(table)  # it belongs to other seeds too


def test_noise_of_a_change_is_compared_with_the_runs_of_the_gate(gated_once, monkeypatch):
    monkeypatch.chdir(gated_once.folder)
    runs = noise_at("HEAD")[3:6]
    assert "is measured again; 3 of its 12 runs agree" in noise_change("HEAD", runs)
    runs.loc[[45, 47], "accuracy"] += 0.001
    assert "for the seeds 45, 47 the gate has measured" in noise_change("HEAD", runs)


def test_uncommitted_changes_are_judged_and_the_index_stays_as_it_is(gated, judged):
    MUCH_WORSE(gated)
    write("staged", "x")(gated)
    gated.run("git", "add", "staged")
    before = gated.run("git", "status", "--porcelain")
    report = judged(gated, NOT_REPRODUCED)
    assert OTHER_MODEL in report and "HEAD, without the uncommitted changes" in report
    assert gated.run("git", "status", "--porcelain") == before and "A  staged" in before
    assert not list((gated.folder / ".dvc/tmp").glob("*candidate*"))


def test_options_stand_in_the_verdict_and_edited_noise_of_the_baseline_is_not_used(
    gated, judged, monkeypatch
):
    trained, measure = [], Scorer.measure

    def spy(self, pipeline, seeds):
        trained.append(seeds)
        return measure(self, pipeline, seeds)

    monkeypatch.setattr(Scorer, "measure", spy)
    for step in (changed_noise(lambda i, x: x + 0.1), commit, set_("seed=50"), made):
        step(gated)
    report = judged(gated, "✓", "--seeds", "1", "--baseline", "HEAD~1")
    assert "(--baseline HEAD~1 --seeds 1)" in report.splitlines()[0]
    assert "Means of 5 runs of the baseline and 1 run of the candidate:" in report
    assert re.search(r"contradicts the \w+ that is committed there", report)
    # the candidate's hash draws the seeds, so its author can't choose them; its own is not one
    seeds = [*range(42, 50), *range(51, 72)]
    random.Random(gated.run("git", "rev-parse", "HEAD").strip()).shuffle(seeds)  # noqa: S311
    assert trained == [seeds[:5], seeds[:1]]


def test_a_reference_with_other_data_is_not_used(gated, monkeypatch):
    reference = gated.run("git", "rev-parse", "HEAD").strip()
    other_data = edit("dvc.lock", gated.output_md5("data/prepared"), "x")
    for step in (set_(f"reference='{reference}'"), other_data, commit):
        step(gated)
    monkeypatch.chdir(gated.folder)
    with pytest.raises(UserError, match=f"{reference[:7]} was measured with other data"):
        read_reference("HEAD", gate_at("HEAD"), pd.DataFrame())
    gate = gate_at("HEAD")
    assert read_reference(reference, gate, noise_at(reference)) == {}  # the same runs
    more = {"metrics": gate.metrics | {"more": gate.metrics["loss"]}}
    with pytest.raises(UserError, match="names more, which is not among"):
        read_reference(reference, gate.model_copy(update=more), pd.DataFrame())
    without = gate.model_copy(update={"reference": None})
    assert read_reference("HEAD", without, pd.DataFrame()) == {}
    assert [*read_reference(reference, gate, pd.DataFrame())] == ["reference"]


def test_a_missing_baseline_is_named_and_in_ci_the_summary_has_the_report(gated, judged):
    summary = gated.folder.parent / "summary.md"
    summary.write_text("Of another step.\n")
    variables = {"GITHUB_STEP_SUMMARY": str(summary)}
    report = judged(gated, "? cannot judge", "--baseline", "nowhere", **variables)
    assert "there is no revision nowhere" in report
    assert summary.read_text().startswith("Of another step.\n### ? cannot judge")


def test_files_named_like_packages_do_not_take_their_place_in_the_gate(gated):
    """Neither beside the gate or the candidate, nor where the user's PYTHONPATH points."""
    for name in ("pandas", "networkx", "random"):
        write(f"{name}.py", "import os; os._exit(0)\n")(gated)
        write(f"elsewhere/{name}.py", "import os; os._exit(0)\n")(gated)
    commit(gated)
    other = gated.copy(gated.folder.with_name("other"))
    words = ("python", "-m", "tools.gate.check", "--candidate", str(gated.folder))
    output = other.run(*words, status=2, PYTHONPATH=str(gated.folder / "elsewhere"))
    assert "### ? cannot be reproduced" in output and "without writing" in output


def test_make_names_the_status_that_it_turns_into_2(gated):
    """Also if the Makefile would have Python import a file of the candidate's."""
    write("tools/sitecustomize.py", "import os; os._exit(0)\n")(gated)
    edit("Makefile", "BIN := .venv", "export PYTHONPATH := $(CURDIR)/tools\nBIN := .venv")(gated)
    MUCH_WORSE(gated)
    made(gated)
    output = gated.make("check", status=2)
    assert "### ✗ regression" in output and "Error 1" in output


def test_a_crash_has_status_2(gated):
    edit("tools/gate/judge.py", '    """Judge a', '    raise KeyError\n    """Judge a')(gated)
    commit(gated)
    assert "KeyError" in gated.python("tools.gate.check", status=2, traceback=True)
