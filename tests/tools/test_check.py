"""`make check` on the toy pipeline: a change, the verdict that it must get, and a sentence.

The gate is that of this checkout, as in CI that of the target branch; the candidate's is not used.
A change is a list of steps. After the last one the results are made and committed, as an author
does, unless it is a commit itself or `as_it_is`.
"""

import json
import py_compile
from collections.abc import Callable

import pytest

from tests.support.repository import Repository
from tools.gate import check, sequential

RULES = (  # margins so wide that two further seeds mostly settle it
    "accuracy: {better: higher, margin: 0.04, floor: 0.1}, loss: {better: lower, margin: 0.2},"
    " val_accuracy: {better: higher, margin: 0.06}, class_f1: {better: higher, margin: 0.2}"
)
Step = Callable[[Repository], object]


@pytest.fixture(scope="module")
def gated_once(built_toy, tmp_path_factory) -> Repository:
    """Return a toy repository with rules and measured noise, and a commit after these."""
    toy = Repository(built_toy).copy(tmp_path_factory.mktemp("gated") / "project")
    toy.set(f"metrics={{{RULES}}}", "reference=null")
    toy.commit("Rules")
    toy.python("tools.gate.noise", "--seeds", "12")
    toy.commit("Noise")
    write("notes", "of no consequence")(toy)
    toy.commit("Notes")
    return toy


@pytest.fixture
def gated(gated_once, tmp_path) -> Repository:
    return gated_once.copy(tmp_path / "project")


@pytest.fixture
def judged(call, monkeypatch):
    """Run check; return what it prints, after its first line is seen to be the verdict."""
    monkeypatch.setattr(sequential, "SIMULATED", 20_000)  # a second less for each check

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


def set_(*assignments: str) -> Step:
    return lambda repository: repository.set(*assignments)


def git(*words: str) -> Step:
    return lambda repository: repository.run("git", *words)


def dvc(*words: str) -> Step:
    return lambda repository: repository.dvc(*words)


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


def inflated_noise(repository: Repository) -> None:
    content = json.loads(repository.read("metrics/noise.json"))
    values = content["metrics"].items()
    content["metrics"] = {name: [x + i % 2 for i, x in enumerate(row)] for name, row in values}
    write("metrics/noise.json", json.dumps(content))(repository)


def frozen_loop(repository: Repository) -> None:
    head, _, rest = (repository.folder / "dvc.yaml").read_text().partition("  train:\n")
    body, mark, tail = rest.partition("  evaluate:\n")
    body = "".join(f"  {line}\n" for line in body.splitlines())
    loop = f"{head}  train:\n    foreach: [a]\n    do:\n{body}{mark}{tail}"
    write("dvc.yaml", loop)(repository)
    made(repository)
    edit("dvc.yaml", "    do:\n", "    do:\n      frozen: true\n")(repository)


def submodule(repository: Repository) -> None:
    other = str(repository.folder.parent / "other")
    repository.run("git", "clone", "--quiet", ".", other)
    allowed = ("git", "-c", "protocol.file.allow=always")
    repository.run(*allowed, "submodule", "add", "--quiet", other, "sub")


def failing_hook(repository: Repository) -> None:
    hook = repository.folder.parent / "hooks/post-checkout"
    write(str(hook), "#!/bin/sh\nexit 1\n")(repository)
    hook.chmod(0o755)
    repository.run("git", "config", "core.hooksPath", str(hook.parent))


TRAIN, EVALUATE, PREPARE = (f"stages/{name}.py" for name in ("train", "evaluate", "prepare"))
MUCH_WORSE = set_("train.learning_rate=0.003")
A_BIT_BETTER = set_("train.epochs=3")
SEED = '    + params["seed"] % 7 / 1000\n'  # the last summand of the toy's accuracy
SAVE = '    save(prepared / f"{split}_labels.npy"'
CONTRADICTS, NOT_REPRODUCED = "? results contradict the model", "? cannot be reproduced"
REVIEWER = "? needs a reviewer: the yardstick itself changes"
OTHER_MODEL = "models/model.keras is different"


def add_to_accuracy(summand: str) -> Step:
    return edit(TRAIN, SEED, f"{SEED}    {summand}\n")


def train_with_images_of(number: int) -> Step:
    """Have five training images be images of the split with this number, 1 validation, 2 test."""
    code = f"        pixels = [*pixels][:-5] + [(0, 0, i * 10, {number}) for i in range(5)]\n"
    return edit(PREPARE, SAVE, f"    if split == 'train':\n{code}{SAVE}")


def undeclared(path: str, module: str) -> list[Step]:
    """Return a change of a module that training reads and dvc.yaml does not declare."""
    found = f'__import__("importlib").import_module("{module}").WORSE'
    first = [write(path, "WORSE = 0.0\n"), add_to_accuracy(f"- {found}"), made]
    return [*first, write(path, "WORSE = 0.1\n"), commit]


ATTACKS: dict[str, tuple[str, str, list[Step]]] = {
    "bytecode": (CONTRADICTS, "stages/predictions.pyc (bytecode)", [
        bytecode, edit("dvc.yaml", "stages/predictions.py", "stages/predictions.pyc"), MUCH_WORSE]),
    "module named like a library": (CONTRADICTS, "the table of actual, predicted", [
        write("random.py", "class Random:\n    def __init__(self, seed): pass\n"
              "    def random(self): return 0.0\n"), MUCH_WORSE]),
    "exit in a library's name": (NOT_REPRODUCED, "without writing", [
        write("csv.py", "raise SystemExit(0)\n"), commit]),
    "exit in a shared module": (NOT_REPRODUCED, "without writing models/model.keras", [
        write("fashion/model/epoch_line.py", "raise SystemExit(0)\n"), commit]),
    "settings of DVC": ("✗ regression", "- .dvc/config", [
        dvc("config", "hydra.enabled", "true"), dvc("config", "cache.dir", "../../elsewhere"),
        dvc("config", "core.remote", "nowhere"), MUCH_WORSE]),
    "forged results in the caches": (NOT_REPRODUCED, OTHER_MODEL, [
        MUCH_WORSE, dvc("commit", "--force", "--quiet"), commit]),
    "caches in Git": (NOT_REPRODUCED, OTHER_MODEL, [
        MUCH_WORSE, dvc("commit", "--force", "--quiet"), git("add", "--force", ".dvc/cache"),
        commit]),
    "inflated noise and margin": ("✗ regression", "metrics.accuracy.margin: 0.04 -> 0.9", [
        inflated_noise, set_("metrics.accuracy.margin=0.9"), MUCH_WORSE]),
    "edited noise": ("✓", "noise.json does not belong to the candidate", [
        inflated_noise, A_BIT_BETTER]),
    "gain that is lost again": ("✗ regression", "seeds of the baseline were trained as well", [
        A_BIT_BETTER, made, set_("train.epochs=2")]),
    "evaluation with a bonus": (CONTRADICTS, "accuracy is", [
        write("bonus", "0.0"), edit(
            EVALUATE, 'predict(model["accuracy"]',
            'predict(model["accuracy"] + float(open("bonus").read())'), made,
        write("bonus", "0.2"), MUCH_WORSE]),
    "test labels in training": (NOT_REPRODUCED, "The test images are out of reach", [
        edit(TRAIN, "labels = read", 'read_labels("test")\nlabels = read')]),
    "test images in the training split": ("? test images are used", "5 of the 400 test images", [
        train_with_images_of(2)]),
    "validation images in the training split": ("✓", "trains with 5 of the baseline's validation", [
        train_with_images_of(1)]),
    "weights as a file": ("✓", "weights (binary)", [
        write("weights", b"\0" * 9), add_to_accuracy('+ len(open("weights").read()) / 1e4')]),
    "only the shipped seed is good": ("✗ regression", "over 2 seeds", [
        add_to_accuracy('+ (params["seed"] == 42) / 7'), MUCH_WORSE]),
    "the shipped seed is an outlier": ("✓", "is an outlier among its seeds: accuracy 0.7", [
        add_to_accuracy('+ (params["seed"] == 42) / 10')]),
    "only the gate's seeds are good": ("✗ regression", "in the committed run", [
        add_to_accuracy('- (params["seed"] == 42) / 10')]),
    "one seed for all": ("✓", "All further seeds give the same model", [
        edit(TRAIN, SEED, ""), edit(TRAIN, 'params["seed"]', "42")]),
    "metrics of training": (CONTRADICTS, "val_accuracy is", [
        edit(TRAIN, '": val_accuracy,', '": val_accuracy + 0.1,'), MUCH_WORSE]),
    "numbers of classes": (CONTRADICTS, "the table of class, precision, recall, f1, support", [
        edit(EVALUATE, "f1[-1], support", "f1[-1] + 0.1, support")]),
    "interval": (CONTRADICTS, "accuracy_interval is", [
        edit(EVALUATE, "accuracy + half", "accuracy + 2 * half")]),
    "another model is shipped": (CONTRADICTS, "accuracy is", [
        edit("dvc.yaml", "{path: models/model.keras", "{path: models/final.keras"),
        edit("dvc.yaml", "  evaluate:\n", "  polish:\n    cmd: sed s/0.6/0.2/ models/model.keras"
             " > models/final.keras\n    deps: [models/model.keras]\n"
             "    outs: [models/final.keras]\n  evaluate:\n")]),
    "options in .ci/run": ("✓", "- .ci/run", [write(".ci/run", "check --seeds 1\n"), commit]),
    "a wider bound in the gate's code": ("✗ regression", "- tools/gate/sequential.py", [
        edit("tools/gate/sequential.py", "self.t < self.analysis.worse", "self.t < 1e9"),
        MUCH_WORSE]),
    "a link": ("✓", "- link (a link)", [
        lambda one: (one.folder / "link").symlink_to("/etc"), commit]),
    "metrics edited by hand": (NOT_REPRODUCED, "metrics/test.json is", [
        edit("metrics/test.json", '"accuracy": 0.6', '"accuracy": 0.9'), commit]),
    "results of other params": (NOT_REPRODUCED, "params.yaml is not the one that dvc.lock", [
        A_BIT_BETTER, commit]),
    "frozen in a loop": (NOT_REPRODUCED, OTHER_MODEL, [frozen_loop, MUCH_WORSE]),
    "undeclared import": (NOT_REPRODUCED, OTHER_MODEL, undeclared("more/x.py", "more.x")),
    "package file": (NOT_REPRODUCED, OTHER_MODEL, undeclared("more/__init__.py", "more")),
}  # fmt: skip

HONEST: dict[str, tuple[str, str, list[Step]]] = {
    "another format of the model": (REVIEWER, "KeyError: 'accuracy'", [
        edit(TRAIN, '{"accuracy": accuracy, "seed"', '{"score": accuracy, "seed"'),
        edit(EVALUATE, 'model["accuracy"]', 'model["score"]')]),
    "renamed class": (REVIEWER, "Purse", [edit("dataset.yaml", "Bag", "Purse")]),
    "class that vanishes": (REVIEWER, "The classes differ.", [
        set_("class_names=[T-shirt/top, Trouser, Pullover]")]),
    "smaller validation split": ("✓", "validated on other images", [
        set_("prepare.validation_size=100")]),
    "dropped metric": ("✓", "| val_accuracy |", [
        edit(EVALUATE, '    "macro_f1": sum(f1) / len(f1),\n', "")]),
    "renamed metrics file": ("✓", "| val_accuracy |", [
        edit("dvc.yaml", "metrics/test.json", "metrics/scores.json"),
        edit(EVALUATE, "metrics/test.json", "metrics/scores.json"), made,
        write("metrics/test.json", '{"accuracy": 0.9}'), commit]),  # the stale one
    "renamed model": ("✓", "- dvc.yaml", [
        edit(path, "models/model.keras", "models/net.keras") for path in
        ("dvc.yaml", TRAIN, EVALUATE)]),
    "renamed stage": ("✓", "| val_accuracy |", [edit("dvc.yaml", "  train:\n", "  fit:\n")]),
    "renamed arrays": ("✓", "| val_accuracy |", [
        edit("stages/predictions.py", "_labels.npy", "_y.npy"),
        edit(PREPARE, "_labels.npy", "_y.npy"),
        edit(PREPARE, "_images.npy", "_x.npy")]),
    "param that nobody reads": ("✓", "| val_accuracy |", [
        set_("train={epochs: 2, batch_size: 32, learning_rate: 0.001}")]),
    "editor's files": ("✓ nothing changed", "Outside of docs and README", [
        write("docs/a.md", "a"), commit, write("data/raw/.DS_Store", b"\0"), write("x.swp", b"\0"),
        as_it_is]),
    "comment in gate.yaml": ("✓ no loss", "| val_accuracy |", [
        lambda one: write("gate.yaml", one.read("gate.yaml") + b"# a comment\n")(one), commit]),
    "second change without noise": ("✓", "was measured with other params", [
        A_BIT_BETTER, made, set_("train.epochs=4")]),
    "submodule": ("✓ no loss", "sub (a submodule)", [submodule, commit]),
    "settings of Git": ("✓ no loss", "| val_accuracy |", [
        failing_hook, git("config", "diff.context", "0"), git("config", "diff.noprefix", "true"),
        git("config", "diff.external", "false"), git("config", "core.autocrlf", "true"),
        edit(EVALUATE, "import json\n", "import json  # of the model\n")]),
    "new metric": ("✓ no loss", "macro_f1 is new in gate.yaml: 0.6", [
        set_(f"metrics={{{RULES}, macro_f1: {{better: higher, margin: 0.1}}}}"), commit]),
    "model outside of the cache": ("✓ no loss", "- dvc.yaml", [
        edit("dvc.yaml", "- models/model.keras\n", "- models/model.keras: {cache: false}\n")]),
    "no artifact": ("? cannot judge", "names 0 artifacts of type model", [
        edit("dvc.yaml", "type: model", "type: data"), commit]),
    "no output": ("? cannot judge", "no stage of dvc.yaml makes models/x", [
        edit("dvc.yaml", "{path: models/model.keras", "{path: models/x"), commit]),
    "empty dvc.yaml": ("? cannot judge", "dvc.yaml", [write("dvc.yaml", ""), commit]),
    "stages that are no mappings": ("? cannot judge", "dvc.yaml or dvc.lock can't be read", [
        write("dvc.yaml", "stages:\n  train: 3\n"), commit]),
    "huge metric": (CONTRADICTS, "parameters is 1000", [
        edit(TRAIN, '"parameters": 1}', '"parameters": 10**400}')]),
    "deeply nested metrics": (CONTRADICTS, "metrics/train.json is no file of metrics", [
        edit(TRAIN, "json.dumps(metrics, indent=2)", '"[" * 9999 + "]" * 9999')]),
    "broken gate.yaml": ("✓ no loss", "gate.yaml: can't be compared", [
        write("gate.yaml", "metrics: ["), commit]),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ATTACKS, *HONEST])
def test_a_change_gets_the_verdict_that_its_model_deserves(gated, judged, name):
    verdict, sentence, steps = (ATTACKS | HONEST)[name]
    for step in steps:
        step(gated)
    if steps[-1] not in (commit, as_it_is):
        made(gated)
    assert sentence in judged(gated, verdict)


def test_uncommitted_changes_are_judged_and_the_index_stays_as_it_is(gated, judged):
    MUCH_WORSE(gated)
    gated.dvc("repro", "--quiet")
    write("staged", "x")(gated)
    gated.run("git", "add", "staged")
    before = gated.run("git", "status", "--porcelain")
    report = judged(gated, "✗ regression")
    assert "HEAD, without the uncommitted changes" in report
    assert gated.run("git", "status", "--porcelain") == before and "A  staged" in before
    assert not list((gated.folder / ".dvc/tmp").glob("*candidate*"))


def test_options_that_weaken_a_check_stand_in_the_verdict(gated, judged):
    write("x", "x")(gated)
    commit(gated)
    report = judged(gated, "✓", "--seeds", "1", "--baseline", "HEAD~1")
    assert "(--baseline HEAD~1 --seeds 1)" in report.splitlines()[0]
    assert "| runs         |       12 |         1 |         1 |" in report


def test_slow_decline_is_found_against_the_reference(gated, judged):
    reference = gated.run("git", "rev-parse", "HEAD").strip()
    set_("metrics.accuracy.margin=0.01", "train.learning_rate=0.0013")(gated)
    made(gated)
    gated.python("tools.gate.noise", "--seeds", "12")
    set_(f"reference='{reference}'")(gated)
    commit(gated)
    set_("train.learning_rate=0.0019")(gated)
    made(gated)
    assert "worse than the reference" in judged(gated, "✗ regression")


@pytest.mark.parametrize(
    ("reference", "steps", "why_not"),
    [
        ("gone", [], "there is no revision gone"),
        ("HEAD", [set_("prepare.validation_size=190"), made], "was measured on other data"),
    ],
)
def test_a_reference_that_is_of_no_use_is_remarked(gated, judged, reference, steps, why_not):
    commit_or_word = gated.run("git", "rev-parse", "HEAD") if reference == "HEAD" else reference
    for step in [*steps, set_(f"reference='{commit_or_word.strip()}'"), commit, write("x", "x")]:
        step(gated)
    commit(gated)
    report = judged(gated, "✓")
    assert "Slow decline is not looked for" in report and why_not in report


def test_a_missing_baseline_is_named_and_in_ci_the_summary_has_the_report(gated, judged):
    summary = gated.folder.parent / "summary.md"
    variables = {"GITHUB_STEP_SUMMARY": str(summary)}
    report = judged(gated, "? cannot judge", "--baseline", "nowhere", **variables)
    assert "there is no revision nowhere" in report
    assert summary.read_text().startswith("### ? cannot judge")


def test_files_named_like_packages_do_not_take_their_place_in_the_gate(gated):
    """Also where the gate is the candidate's own, and the user's PYTHONPATH names such files."""
    for name in ("pandas", "networkx", "random"):
        write(f"{name}.py", "import os; os._exit(0)\n")(gated)
        write(f"elsewhere/{name}.py", "import os; os._exit(0)\n")(gated)
    commit(gated)
    path = str(gated.folder / "elsewhere")
    output = gated.run("python", "-m", "tools.gate.check", status=2, PYTHONPATH=path)
    assert "### ? cannot be reproduced" in output and "without writing" in output
    other = gated.copy(gated.folder.with_name("other"))
    output = other.python("tools.gate.check", "--candidate", str(gated.folder), status=2)
    assert "without writing" in output


def test_make_names_the_status_that_it_turns_into_2(gated):
    """Also where the Makefile would have Python import a file of the candidate's by itself."""
    write("tools/sitecustomize.py", "import os; os._exit(0)\n")(gated)
    edit("Makefile", "BIN := .venv", "export PYTHONPATH := $(CURDIR)/tools\nBIN := .venv")(gated)
    MUCH_WORSE(gated)
    made(gated)
    output = gated.make("check", status=2)
    assert "### ✗ regression" in output and "Error 1" in output
    gated.run(".venv/bin/python", "-m", "tools.gate.check", status=1)


def test_a_crash_has_status_2_and_abbreviated_options_are_refused(gated):
    edit("tools/gate/judge.py", '    """Judge a', '    raise KeyError\n    """Judge a')(gated)
    commit(gated)
    assert "KeyError" in gated.python("tools.gate.check", status=2, traceback=True)
    assert "unrecognized" in gated.python("tools.gate.check", "--seed", "5", status=2)
