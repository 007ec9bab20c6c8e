"""`make check` on the toy pipeline: what was changed, what it must say.

Most are attacks: what somebody would do, by mistake or on purpose, to have a worse model pass.
"""

import json
import os
import shutil
import subprocess

import pytest
from ruamel.yaml import YAML

from fashion.errors import UserError
from tests.support.repository import Repository, made_up_noise
from tools.gate import check, evidence
from tools.gate.declarations import find_refusals
from tools.git import temporary_clone

FAKE_RANDOM = """
import sys
here = sys.path.pop(0)
del sys.modules["random"]
import random
sys.path.insert(0, here)
if sys.argv[0].endswith("stages/evaluate.py"):
    class Easy(random.Random):
        def random(self):
            return super().random() * 0.6
    random.Random = Easy
"""
STD = 0.005
METRICS = (
    "accuracy: {better: higher, margin: 0.015, floor: 0.1},"
    " loss: {better: lower, margin: 0.1}, val_accuracy: {better: higher, margin: 0.015}"
)
A_BIT_WORSE = "train.learning_rate=0.0013"  # by 0.0085, which one run can't tell from chance
WORSE = "train.learning_rate=0.00145"  # by 0.0121: three can
MUCH_WORSE = "train.learning_rate=0.003"


@pytest.fixture(scope="module")
def gated_once(built_toy, tmp_path_factory):
    """A repository with noise that is made up and three gated metrics, in the last commit but one.

    Only the mean counts; loss has its own scale in the toy pipeline.
    """
    toy = Repository(built_toy).copy(tmp_path_factory.mktemp("gated") / "project")
    toy.set(f"metrics={{{METRICS}}}")
    made_up_noise(toy, STD)
    noise = json.loads(toy.read("metrics/noise.json"))
    mean = json.loads(toy.read("metrics/test.json"))["loss"]
    noise["metrics"]["loss"] = [mean + 4 * (x - mean) for x in noise["metrics"]["loss"]]
    (toy.folder / "metrics/noise.json").write_text(json.dumps(noise))
    toy.commit("Noise")
    (toy.folder / "notes").write_text("of no consequence")
    toy.commit("Nothing")
    return toy


@pytest.fixture
def gated(gated_once, tmp_path):
    """The same, of the test's own."""
    return gated_once.copy(tmp_path / "project")


def edit(repository: Repository, path: str, old: str, new: str) -> None:
    text = (repository.folder / path).read_text()
    assert old in text
    (repository.folder / path).write_text(text.replace(old, new))


def run_again(repository: Repository, *assignments: str) -> None:
    """Change params, and make results and a commit of them."""
    repository.set(*assignments)
    repository.dvc("repro", "--quiet")
    repository.commit("A change")


def found(repository: Repository) -> dict:
    return json.loads((repository.folder.parent / "check.json").read_text())


@pytest.fixture
def judged(call):
    """Run check; return what it prints, after its first line is seen to be the verdict."""

    def run(repository, verdict, *arguments, **variables):
        status = {"✓": 0, "✗": 1, "?": 2}[verdict[0]]
        target = str(repository.folder.parent / "check.json")
        output = call(repository, check, "--json", target, *arguments, status=status, **variables)
        report = output[output.index("### ") :]
        assert report.startswith(f"### {verdict}"), report
        assert "Traceback" not in output
        return report

    return run


# How it is decided


def test_the_same_results_hold_at_once(gated, judged):
    report = judged(gated, "✓ holds: compared with")
    assert "as this one is on main" in report.splitlines()[0]
    assert "the baseline's, to the byte" in report and "run again" not in report
    assert found(gated)["runs"] == 0


def test_in_ci_the_same_results_are_made_again_from_the_raw_data(gated, judged):
    assert "All stages were run again" in judged(gated, "✓ holds", CI="true")


def test_other_code_with_the_same_results_holds_after_it_was_run_again(gated, judged):
    edit(gated, "stages/evaluate.py", "import json\n", "import json  # as text\n")
    run_again(gated)
    report = judged(gated, "✓ holds")
    assert "The model and its metrics are the baseline's" in report and "run again" in report
    assert "its code gives the model the same scores" in report


def test_what_is_clearly_worse_is_found_by_the_committed_run(gated, judged):
    run_again(gated, MUCH_WORSE)
    report = judged(gated, "✗ regression")
    assert found(gated)["runs"] == 1 and "accuracy decided after 1 run" in report
    assert "same scores" not in report  # no code was changed
    assert "went from right to wrong" in report
    assert found(gated)["images"][0]["broken"] > found(gated)["images"][0]["fixed"]


@pytest.mark.parametrize(("change", "verdict"), [(A_BIT_WORSE, "✓ holds"), (WORSE, "✗ regression")])
def test_what_one_run_can_not_tell_further_seeds_settle(gated, judged, change, verdict):
    run_again(gated, change)
    report = judged(gated, verdict)
    assert found(gated)["runs"] == 3 and "after 3 runs" in report
    assert "check-seed" not in gated.dvc("exp", "list")


def test_one_seed_is_a_quick_look_that_says_what_it_did_not_see(gated, judged):
    run_again(gated, WORSE)
    report = judged(gated, "✓ holds", "--seeds", "1")
    assert "not ruled out for" in report and "accuracy (up to 0.0" in report
    assert "run again" not in report and found(gated)["runs"] == 1


def test_a_lucky_seed_settles_nothing(gated, judged):
    run_again(gated, WORSE, "seed=48")  # whose accuracy is 0.005 better
    report = judged(gated, "✗ regression")
    assert "The seed was changed from 42 to 48" in report and found(gated)["runs"] == 3


def test_slow_decline_is_seen_against_the_reference(gated, judged):
    noise = json.loads(gated.read("metrics/noise.json"))
    before = noise["metrics"]["accuracy"]
    noise["metrics"]["accuracy"] = [value + 0.02 for value in before]
    (gated.folder / "metrics/reference.json").write_text(json.dumps(noise))
    gated.commit("The best so far")
    run_again(gated, "train.learning_rate=0.00105")
    assert "worse than reference" in judged(gated, "✗ regression")


def test_a_floor_holds_whatever_the_baseline(gated, judged):
    gated.set("metrics.accuracy.floor=0.694")
    gated.commit("A floor")
    run_again(gated, "train.learning_rate=0.00105")
    assert "its floor is 0.694" in judged(gated, "✗ regression")


# Who sets the rules


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("metrics.accuracy.floor=0.0", "gate.yaml: metrics.accuracy.floor: 0.1 -> 0.0"),
        ("metrics.accuracy.margin=0.5", "gate.yaml: metrics.accuracy.margin: 0.015 -> 0.5"),
        ("metrics.loss.better=higher", "gate.yaml: metrics.loss.better: lower -> higher"),
        ("metrics={loss: {better: lower, margin: 1}}", "metrics.accuracy.better: higher -> None"),
        ("false_alarms=0.0001", "gate.yaml: false_alarms: 0.005 -> 0.0001"),
    ],
)
def test_a_change_of_the_gate_is_listed(gated, judged, change, named):
    gated.set(change)
    gated.commit("Other rules")
    assert named in judged(gated, "? holds, but the rules change", "--accept-rules", "0" * 12)


def test_a_change_of_the_rules_is_accepted_by_its_name(gated, judged):
    gated.set("metrics.accuracy.margin=0.02")
    report = judged(gated, "? holds, but the rules change", "--baseline", "HEAD")
    accept = report.split("--accept-rules ")[1].split("`")[0]
    arguments = ("--baseline", "HEAD", "--accept-rules", accept)
    assert "These rules are accepted" in judged(gated, "✓ holds", *arguments)


def test_inflated_noise_does_not_hide_a_regression(gated, judged):
    noise = json.loads(gated.read("metrics/noise.json"))
    noise["metrics"] = {
        name: [value + i % 2 for i, value in enumerate(values)]
        for name, values in noise["metrics"].items()
    }
    (gated.folder / "metrics/noise.json").write_text(json.dumps(noise))
    gated.set("metrics.accuracy.floor=0.0", "metrics.accuracy.margin=0.9")
    run_again(gated, MUCH_WORSE)
    report = judged(gated, "✗ regression")
    assert "metrics.accuracy: 0.6950 ± 0.0050 of 30 -> 1.1950 ± 0.5090 of 30" in report


def test_without_rules_in_the_baseline_those_here_hold_once_they_are_accepted(gated, judged):
    (gated.folder / "metrics/noise.json").rename(gated.folder / "noise.json")
    gated.commit("No noise")
    run_again(gated, MUCH_WORSE)
    assert "there is no metrics/noise.json" in judged(gated, "? can't judge, the baseline has no")
    (gated.folder / "noise.json").rename(gated.folder / "metrics/noise.json")
    report = judged(gated, "? can't judge", "--baseline", "HEAD~1")
    accept = report.split("--accept-rules ")[1].split("`")[0]
    judged(gated, "✗ regression", "--baseline", "HEAD~1", "--accept-rules", accept)


def test_noise_of_other_params_than_the_baseline_has_is_no_baseline(gated, judged):
    run_again(gated, MUCH_WORSE)
    run_again(gated, "train.learning_rate=0.004")
    report = judged(gated, "? can't judge")
    assert "measured for other params than it has" in report
    assert "`make noise`, and commit it" in report


# The yardstick


def test_other_test_images_are_no_yardstick(gated, judged):
    edit(
        gated,
        "stages/prepare.py",
        '    save(prepared / f"{split}_images.npy"',
        "    labels = b'abc' + labels[3:] if split == 'test' else labels\n"
        '    save(prepared / f"{split}_images.npy"',
    )
    run_again(gated)
    report = judged(gated, "? can't judge, measured on other images")
    assert "3 of the 400 test images" in report


def test_another_size_of_the_validation_split_is_no_yardstick(gated, judged):
    run_again(gated, "prepare.validation_size=100")
    report = judged(gated, "? can't judge, measured on other images")
    assert "the validation images: 200 before, 100 now" in report and "test" not in report


def test_an_evaluation_that_leaves_images_out_is_noticed(gated, judged):
    edit(
        gated,
        "stages/evaluate.py",
        "labels = list(content[header:])",
        "labels = list(content[header:])[:300]",
    )
    run_again(gated)
    assert "300 rows for 400 test images" in judged(gated, "? can't judge, results contradict")


def test_another_definition_of_a_metric_is_noticed(gated, judged):
    edit(gated, "stages/evaluate.py", '"accuracy": accuracy,', '"accuracy": accuracy ** 0.5,')
    run_again(gated)
    report = judged(gated, "? can't judge, results contradict each other")
    assert "accuracy is 0.8" in report and "0.695" in report


def test_predictions_that_are_no_longer_the_model_s_are_noticed(gated, judged):
    edit(gated, "stages/evaluate.py", '< model["accuracy"]', '< model["accuracy"] + 0.2')
    run_again(gated)
    report = judged(gated, "? can't judge, the baseline's code gives other scores")
    assert "by the baseline's" in report and "accuracy is 0.9" in report


def test_an_evaluation_that_is_honest_about_one_seed_alone_is_noticed(gated, judged):
    edit(
        gated,
        "stages/evaluate.py",
        '< model["accuracy"]',
        '< model["accuracy"] + 0.2 * (model["seed"] != 42)',
    )
    run_again(gated, WORSE)
    judged(gated, "? can't judge, the baseline's code gives other scores")


# Results that nobody's word is taken for


def change_metrics(repository: Repository, **values) -> None:
    """Change test metrics as if the stage had written them."""
    content = json.loads(repository.read("metrics/test.json")) | values
    repository.rewrite("metrics/test.json", json.dumps(content))
    repository.commit("Better")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"accuracy": 87.02}, "accuracy is 87.02, which is not in"),
        ({"loss": -5.0}, "loss is -5.0, which is below 0"),
        ({"loss": float("nan")}, "loss is nan, which is not finite"),
        ({"val_loss": float("inf")}, "val_loss is inf, which is not finite"),
        ({"accuracy": True}, "accuracy is True, which is no number"),
        ({"macro_f1": "0.9"}, "macro_f1 is '0.9', which is no number"),
    ],
)
def test_a_metric_that_can_not_be_is_an_error(gated_once, tmp_path, monkeypatch, values, named):
    shutil.copytree(gated_once.folder / "metrics", tmp_path / "metrics")
    monkeypatch.chdir(tmp_path)
    content = json.loads(evidence.TEST.read_text()) | values
    evidence.TEST.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"metrics/test\.json: ") as error:
        evidence.read_metrics()
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("values", "verdict", "named"),
    [
        ({"accuracy": 0.95}, "? can't judge, results contradict", "accuracy is 0.95"),
        ({"accuracy": 87.02}, "? can't judge: ", "which is not in"),
    ],
)
def test_metrics_edited_with_their_md5_are_noticed(gated, judged, values, verdict, named):
    change_metrics(gated, **values)
    assert named in judged(gated, verdict)


@pytest.mark.parametrize(
    ("how", "named"),
    [
        (lambda lines: [], "damaged"),
        (lambda lines: lines[:1], "0 rows for 400"),
        (lambda lines: lines[:100], "99 rows for 400"),
        (lambda lines: ["actual,predicted", *lines[1:]], "has no column"),
        (lambda lines: [lines[0], *sorted(lines[1:])], "test image 0 is given as Ankle boot"),
        (
            lambda lines: [f"{line.split(',')[0]}," * 2 + "1.0,0.0" for line in lines],
            "has no column",
        ),
        (
            lambda lines: [lines[0]]
            + [f"{line.split(',')[0]}," * 2 + "1.0,0" for line in lines[1:]],
            "accuracy is 0.695",
        ),
    ],
    ids=["empty", "without rows", "cut", "uneven", "sorted", "without header", "all right"],
)  # fmt: skip
def test_predictions_that_say_something_else_are_noticed(
    gated_once, tmp_path, monkeypatch, how, named
):
    shutil.copytree(gated_once.folder / "data", tmp_path / "data")
    (tmp_path / "plots").mkdir()
    monkeypatch.chdir(gated_once.folder)
    metrics = evidence.read_metrics()
    monkeypatch.chdir(tmp_path)
    lines = gated_once.read("plots/predictions.csv").decode().splitlines()
    evidence.PREDICTIONS.write_text("\n".join(lines))
    assert evidence.check_predictions(metrics) == []
    evidence.PREDICTIONS.write_text("\n".join(how(lines)))
    assert named in "".join(evidence.check_predictions(metrics))


def test_without_predictions_it_can_not_be_judged(gated, judged):
    gated.rewrite("plots/predictions.csv", "")
    gated.commit("No predictions")
    assert "damaged" in judged(gated, "? can't judge, results contradict each other")


def test_results_of_another_time_that_were_committed_by_force_are_noticed(gated, judged):
    gated.set(MUCH_WORSE)
    gated.dvc("commit", "--force", "--quiet")
    gated.commit("Nothing got worse")
    report = judged(gated, "? can't judge, results can't be reproduced")
    assert "models/model.keras is not what the code makes" in report


def test_results_edited_by_hand_are_out_of_date(gated, judged):
    edit(gated, "metrics/test.json", '"accuracy": 0', '"accuracy": 1')
    report = judged(gated, "? can't judge, results are out of date")
    assert "evaluate: metrics/test.json is not what the stage wrote" in report


def test_a_missing_output_is_out_of_date(gated, judged):
    (gated.folder / "models/model.keras").unlink()
    report = judged(gated, "? can't judge, results are out of date")
    assert "train: models/model.keras is missing" in report


def test_results_of_other_params_or_code_are_out_of_date(gated, judged):
    gated.set("train.epochs=3")
    report = judged(gated, "? can't judge, results are out of date")
    assert "train: params.yaml has changed since the stage ran" in report
    gated.set("train.epochs=2")
    edit(gated, "stages/evaluate.py", "import json\n", "import json  # changed\n")
    report = judged(gated, "? can't judge, results are out of date")
    assert "evaluate: stages/evaluate.py has changed" in report and "params.yaml" not in report


def test_a_stage_that_was_skipped_is_out_of_date(gated, judged):
    path = gated.folder / "dvc.lock"
    lock = YAML(typ="safe").load(path.read_text())
    del lock["stages"]["evaluate"]
    YAML(typ="safe").dump(lock, path)
    assert "- evaluate: " in judged(gated, "? can't judge, results are out of date")


# What would hide a change


@pytest.mark.parametrize(
    ("path", "old", "new", "named"),
    [
        ("dvc.yaml", "cmd: python -m stages.train", "frozen: true\n    cmd: python -m stages.train",
         "stage train is frozen"),
        ("dvc.yaml", "deps: [data/prepared, models/model.keras, ", "deps: [data/prepared, ",
         "stage evaluate no longer declares models/model.keras"),
        ("dvc.yaml", "deps: [data/prepared, stages/train.py]", "deps: [data/prepared]",
         "stage train no longer declares stages/train.py"),
        ("dvc.yaml", "params: [seed, model, train]", "params: [seed, model]",
         "stage train no longer declares train"),
        ("dvc.yaml", "      - plots/predictions.csv: {cache: false}\n    metrics", "    metrics",
         "stage evaluate no longer declares plots/predictions.csv"),
        ("dvc.yaml", "artifacts:", "metrics: [static.json]\nartifacts:",
         "static.json is declared as metrics outside of the stages"),
        ("dvc.yaml", "  evaluate:\n", "  evaluate2:\n", "dvc.yaml has no stage evaluate any more"),
    ],
)  # fmt: skip
def test_a_declaration_that_hides_a_change_is_refused(gated, monkeypatch, path, old, new, named):
    edit(gated, path, old, new)
    monkeypatch.chdir(gated.folder)
    assert named in "".join(find_refusals("HEAD"))


def test_what_is_refused_is_not_judged(gated, judged):
    edit(gated, "dvc.yaml", "cmd: python -m stages.train",
         "frozen: true\n    cmd: python -m stages.train")  # fmt: skip
    gated.commit("Frozen")
    assert "stage train is frozen" in judged(gated, "? can't judge, refused")


def test_a_dependency_that_the_code_no_longer_reads_need_not_be_declared(gated, judged):
    """As when a module is renamed."""
    edit(gated, "dvc.yaml", "deps: [data/prepared, stages/train.py]",
         "deps: [data/prepared, stages/train.py, fashion/gone.py]")  # fmt: skip
    (gated.folder / "fashion/gone.py").write_text("")
    run_again(gated)
    edit(gated, "dvc.yaml", ", fashion/gone.py", "")
    (gated.folder / "fashion/gone.py").unlink()
    run_again(gated)
    judged(gated, "✓ holds")


@pytest.mark.parametrize("ignored", [False, True])
def test_code_that_git_does_not_track_is_refused(gated, monkeypatch, ignored):
    (gated.folder / "stages/extra.py").write_text("")
    if ignored:
        (gated.folder / ".git/info/exclude").write_text("extra.py\n")
    monkeypatch.chdir(gated.folder)
    assert "stages/extra.py is code" in "".join(find_refusals("HEAD"))


def test_code_in_the_place_of_a_library_is_noticed(gated, judged):
    """Python finds it first, and no stage declares it."""
    (gated.folder / "random.py").write_text(FAKE_RANDOM)
    run_again(gated, WORSE)
    judged(gated, "? can't judge, the baseline's code gives other scores")


# No crash, no spoof


def test_what_is_not_there_can_not_be_judged(gated, judged, tmp_path):
    report = judged(gated, "? can't judge", "--baseline", "nowhere")
    assert "there is no revision nowhere" in report
    first = gated.run("git", "rev-list", "--max-parents=0", "HEAD").strip()
    assert "dvc.lock" in judged(gated, "? can't judge", "--baseline", first)
    shallow = Repository(tmp_path / "shallow")
    gated.run("git", "clone", "--quiet", "--depth", "1", gated.folder.as_uri(), str(shallow.folder))
    assert "git fetch --unshallow" in judged(shallow, "? can't judge")


@pytest.mark.parametrize(
    ("path", "content", "named"),
    [
        ("gate.yaml", "metrics: [", "gate.yaml"),
        ("metrics/noise.json", "{", "metrics/noise.json: not JSON"),
        ("metrics/noise.json", '{"seeds": [1]}', "metrics/noise.json: seeds"),
    ],
)
def test_what_is_broken_here_is_said_of_here(gated, judged, path, content, named):
    (gated.folder / path).write_text(content)
    report = judged(gated, "? can't judge")
    assert named in report.replace("\\", "") and " of " + "0" * 7 not in report


def test_a_program_that_crashes_has_status_2(gated):
    (gated.folder / "fashion/errors.py").write_text("def broken(:\n")
    assert "SyntaxError" in gated.python("tools.gate.check", status=2)
    gated.run("git", "checkout", "fashion/errors.py")
    edit(gated, "tools/gate/judge.py", "    started = ", "    raise KeyError\n    started = ")
    assert "KeyError" in gated.python("tools.gate.check", status=2)


def test_a_baseline_can_be_an_experiment(gated, judged):
    gated.dvc("exp", "run", "--temp", "--name", "other", "--set-param", "train.epochs=1")
    report = judged(gated, "? can't judge", "--baseline", "other")
    assert "(other)" in report.splitlines()[0] and "other params than it has" in report


def test_in_ci_the_summary_has_the_report(gated, judged):
    summary = gated.folder.parent / "summary.md"
    judged(gated, "✓ holds", GITHUB_STEP_SUMMARY=str(summary))
    assert summary.read_text().startswith("### ✓ holds")


def test_what_a_killed_check_left_is_removed_and_what_another_uses_is_not(gated, monkeypatch):
    monkeypatch.chdir(gated.folder)
    ended = subprocess.Popen(["true"])
    ended.wait()
    tmp = gated.folder / ".dvc/tmp"
    left, used = tmp / f"check-{ended.pid}-x", tmp / f"check-{os.getpid()}-x"
    for folder in (left, used):
        (folder / "stages").mkdir(parents=True)
    with temporary_clone("check", "HEAD") as clone:
        assert (clone / "dvc.yaml").exists()
    assert used.exists() and not left.exists() and not clone.exists()
