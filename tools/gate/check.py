"""Compare the workspace's metrics with a baseline revision's: `make check`.

Fails on a regression. The table is Markdown. Exit status 0 when all holds; 1 on a regression, or
when results do not belong to the code, params and data beside them; 2 when it cannot judge. How
much a metric may get worse is not guessed: it follows from metrics/noise.json, where `make noise`
wrote how much each metric varies over seeds while nothing else changes.

One run against one run shows only what is larger than the noise of both. `--seeds 5` looks closer:
it runs the workspace with five seeds, as DVC experiments, and compares their mean with that of the
baseline's noise.json.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import cpu_count

from fashion.errors import UserError, exit_on_user_error
from fashion.files import atomic_write
from fashion.strict_yaml import parse_yaml, read_yaml
from stages.dataset import DATASET
from stages.params import PARAMS
from tools.arguments import positive_int
from tools.dvc import command, dvc, subprocess_env
from tools.experiments.up_to_date import run_missing
from tools.fsck import NOT_MADE, is_made, verify_cache
from tools.gate.config import Gate, read_gate
from tools.gate.noise import NOISE, SEEDS, conditions, number_metrics
from tools.gate.rule import HOLDS, REGRESSION, UNKNOWN, MetricComparison, judge, tolerance
from tools.git import git, git_bytes, is_shallow, resolve_revision

ENVIRONMENT = Path("metrics/environment.json")
PREDICTIONS = "plots/predictions.csv"
ANOTHER = "Name another baseline: --baseline REV"
SHALLOW = "This clone is shallow: `git fetch --unshallow` brings the rest"
FAMILYWISE_ALPHA = 0.05  # chance that any class is called changed when none is


class CannotJudge(UserError):
    """There is nothing to compare, or it can't be compared. Exit status 2."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="check", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--baseline",
        metavar="REV",
        help="commit, branch, tag or experiment; default: where main was left",
    )
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=positive_int,
        default=1,
        help="run N seeds, and compare means over seeds",
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="write the comparison there as well"
    )
    arguments = parser.parse_args()
    try:
        gate = read_gate()
        baseline = (
            resolve_baseline(arguments.baseline) if arguments.baseline else default_baseline()
        )
        if not is_made():
            raise CannotJudge(f"{NOT_MADE}: `make`")
        problems = find_stale_outputs()
        require_same_data(baseline)
        rows = (
            compare_runs(baseline, gate)
            if arguments.seeds == 1
            else compare_means(baseline, gate, arguments.seeds)
        )
    except CannotJudge as reason:
        print(f"check: {reason}", file=sys.stderr)
        return 2
    verdicts = {row.verdict for row in rows}
    status = 1 if problems or REGRESSION in verdicts else 2 if UNKNOWN in verdicts else 0
    paired = paired_test(baseline)
    arithmetic = {
        "baseline": metrics_of(baseline).get("arithmetic"),
        "now": metrics_of(None).get("arithmetic"),
    }
    text = report(
        arguments.baseline or baseline[:7],
        rows,
        problems,
        notes(baseline),
        paired,
        status,
        arithmetic,
    )
    print(text)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
    if arguments.json:
        content = {"baseline": baseline, "status": status, "problems": problems, "paired": paired}
        content["metrics"] = [asdict(row) for row in rows]
        with atomic_write(arguments.json) as tmp_path:
            tmp_path.write_text(json.dumps(content, indent=2) + "\n")
    return status


def resolve_baseline(revision: str) -> str:
    """The commit that an experiment, branch, tag or hash stands for."""
    try:
        return resolve_revision(revision)
    except UserError as error:
        raise CannotJudge(f"{error}. {SHALLOW}" if is_shallow() else str(error)) from None


def default_baseline() -> str:
    """Where this branch left the main branch; on the main branch itself, the commit before."""
    if is_shallow():
        raise CannotJudge(f"there is nothing to compare with. {SHALLOW}")
    head = resolve_baseline("HEAD")
    for main_branch in ("origin/main", "main"):
        try:
            base = git("merge-base", "HEAD", main_branch).strip()
        except UserError:
            continue
        if base != head:
            return base
    try:
        return git("rev-parse", "--verify", "--quiet", "HEAD~1").strip()
    except UserError:
        raise CannotJudge(
            "there is no commit before this one to compare with. Name one: --baseline REV"
        ) from None


def find_stale_outputs() -> list[str]:
    """Return what fsck and `dvc status` find.

    That is results that are damaged, changed by hand, or not of this code, params and data.
    """
    try:
        verify_cache()
    except UserError as error:
        raise CannotJudge(str(error)) from None
    result = subprocess.run(
        command("status", "--json"),
        env=subprocess_env(),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise CannotJudge(f"`dvc status` fails: {result.stderr.strip()}")
    problems = []
    for stage, changes in json.loads(result.stdout).items():
        for change in changes:
            if isinstance(change, str):
                problems.append(f"{stage}: {change}. `dvc repro` brings its results up to date")
                continue
            for kind, files in change.items():
                for file, state in files.items():
                    problems.append(f"{stage}: {file} {_explained(kind, state)}")
    return problems


def _explained(kind: str, state: Any) -> str:
    if kind == "changed outs":
        known = {"deleted": "is missing", "not in cache": "is not in the cache"}
        found = known.get(state, "is not what the stage wrote: edited or damaged")
        return f"{found}. `dvc repro` makes it again"
    what = state if isinstance(state, str) else "params"
    return f"has changed since the stage ran ({kind}, {what}). `dvc repro` runs it"


def require_same_data(baseline: str) -> None:
    """Raises CannotJudge where the two were not measured on the same images."""
    before = facts_of(content_of(baseline, DATASET), content_of(baseline, PARAMS))
    now = facts_of(read_yaml(DATASET), read_yaml(PARAMS))
    for name, fact in now.items():
        if before[name] != fact:
            raise CannotJudge(
                f"{name} differs from the baseline's ({before[name]}, now {fact}),"
                f" so metrics can't be compared. {ANOTHER}"
            )


def facts_of(dataset: dict, params: dict) -> dict[str, Any]:
    """Return what decides which images metrics are measured on, by what it is called."""
    files = {role: file["sha256"] for role, file in dataset["files"].items()}
    return {
        "the data set": dataset["name"],
        "the test images": files["test_images"],
        "the test labels": files["test_labels"],
        "the training images": files["train_images"],
        "the size of the validation split": params["prepare"]["validation_size"],
        "the seed of the validation split": params["prepare"]["split_seed"],
    }


def params_of(revision: str) -> dict:
    return content_of(revision, PARAMS)


def content_of(revision: str, path: Path) -> dict:
    """Return the content of a YAML file at a revision."""
    try:
        return parse_yaml(git("show", f"{revision}:{path}"))
    except UserError:
        raise CannotJudge(f"{revision[:7]} has no {path}. {ANOTHER}") from None


def metrics_of(revision: str | None) -> dict[str, Any]:
    """DVC's metrics of a revision, or of the workspace, by name."""
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        metrics = dvc.api.metrics_show(rev=revision)
    except FileNotFoundError as error:
        if revision is None:
            return {}  # each gated metric is then told to be missing
        raise CannotJudge(
            f"{revision[:7]} has no metrics: {error.filename} is missing there. {ANOTHER}"
        ) from None
    except DvcException as error:
        raise CannotJudge(
            f"the metrics of {(revision or 'the workspace')[:13]} can't be read: {error}. {ANOTHER}"
        ) from None
    return metrics


def compare_runs(baseline: str, gate: Gate) -> list[MetricComparison]:
    """One run against one run: the metrics of the workspace against those of the baseline."""
    return judge_metrics(metrics_of(baseline), metrics_of(None), read_noise(baseline), gate)


def judge_metrics(
    before: dict, now: dict, noise: dict, gate: Gate, **runs: int
) -> list[MetricComparison]:
    """Judge every gated metric; `runs` says of how many runs the two are means."""
    rows = []
    for name, rule in gate.metrics.items():
        std = noise["metrics"].get(name, {}).get("std")
        allowed = None
        if std is not None:
            allowed = tolerance(std, noise["runs"], gate.sigmas, metrics=len(gate.metrics), **runs)
        rows.append(judge(name, before.get(name), now.get(name), allowed, **rule.model_dump()))
    return rows


def compare_means(baseline: str, gate: Gate, seeds: int) -> list[MetricComparison]:
    """Judge likewise the mean over seeds, here and in the baseline.

    Noise shrinks with the number of runs.
    """
    try:
        noise = json.loads(git("show", f"{baseline}:{NOISE}"))
    except UserError:
        raise CannotJudge(
            f"{baseline[:7]} has no {NOISE}, so its mean over seeds is not known. {ANOTHER}"
        ) from None
    if conditions(params_of(baseline), content_of(baseline, DATASET)) != noise["params"]:
        raise CannotJudge(
            f"{NOISE} of {baseline[:7]} was measured for other params than it has. {ANOTHER}"
        )
    values = read_yaml(PARAMS)
    planned = {
        f"check-seed-{seed}": {"seed": seed}
        for seed in range(values["seed"], values["seed"] + seeds)
    }
    now = (
        pd.DataFrame(
            [
                number_metrics(result)
                for result in run_missing(planned, values, cpu_count()).values()
            ]
        )
        .mean()
        .to_dict()
    )
    dvc("exp", "remove", *planned)
    means = {name: measured["mean"] for name, measured in noise["metrics"].items()}
    return judge_metrics(means, now, noise, gate, runs_before=noise["runs"], runs_now=seeds)


def read_noise(baseline: str) -> dict:
    """The noise measured here, or else that of the baseline."""
    try:
        return json.loads(
            NOISE.read_text() if NOISE.exists() else git("show", f"{baseline}:{NOISE}")
        )
    except (UserError, ValueError):
        raise CannotJudge(
            f"{NOISE} is missing or damaged, so nobody knows what is noise."
            " `make noise` measures it"
        ) from None


def notes(baseline: str) -> list[str]:
    """What a reader should know of the tolerances."""
    noise, here = read_noise(baseline), conditions(read_yaml(PARAMS), read_yaml(DATASET))
    found = []
    other = [section for section, value in noise["params"].items() if here.get(section) != value]
    if other:
        found.append(
            f"The noise was measured for other params ({', '.join(other)})."
            " `make noise` measures it for these."
        )
    if noise["runs"] < SEEDS:
        found.append(
            f"The noise was measured with {noise['runs']} seeds only, which makes the tolerances"
            f" wide: `make noise` takes {SEEDS}."
        )
    here = json.loads(ENVIRONMENT.read_text()) if ENVIRONMENT.exists() else {}
    if {name: here.get(name) for name in noise["environment"]} != noise["environment"]:
        found.append(
            "The noise was measured in another environment; its size should still be about right."
        )
    return found


def paired_test(baseline: str) -> dict | None:
    """Apply McNemar's exact test to the two revisions' predictions.

    It asks: is the change more than chance, on these very images? Counts images that went from
    right to wrong and back; under no change either way is equally likely (McNemar 1947). `classes`
    has those in which the change stands out after Bonferroni's correction for the number of
    classes.
    """
    try:
        before = pd.read_csv(
            io.BytesIO(git_bytes("show", f"{baseline}:{PREDICTIONS}")), keep_default_na=False
        )
        now = pd.read_csv(PREDICTIONS, keep_default_na=False)
    except (UserError, OSError, ValueError):
        return None
    if not before["actual"].equals(now["actual"]):
        return None
    was_right, is_right = before["predicted"] == before["actual"], now["predicted"] == now["actual"]
    changes = pd.DataFrame(
        {"class": now["actual"], "broken": was_right & ~is_right, "fixed": ~was_right & is_right}
    )
    result = _mcnemar(changes["broken"].sum(), changes["fixed"].sum())
    by_class = changes.groupby("class", sort=False)[["broken", "fixed"]].sum()
    tested = {name: _mcnemar(row["broken"], row["fixed"]) for name, row in by_class.iterrows()}
    return result | {
        "classes": {
            name: test
            for name, test in tested.items()
            if test["p"] < FAMILYWISE_ALPHA / len(by_class)
        }
    }


def _mcnemar(broken: int, fixed: int) -> dict:
    from scipy.stats import binomtest  # slow, so only where it is needed

    broken, fixed = int(broken), int(fixed)
    return {
        "broken": broken,
        "fixed": fixed,
        "p": float(binomtest(broken, broken + fixed).pvalue) if broken + fixed else 1.0,
    }


def report(
    baseline: str,
    rows: list[MetricComparison],
    problems: list[str],
    remarks: list[str],
    paired: dict | None,
    status: int,
    arithmetic: dict[str, str | None],
) -> str:
    """The comparison as Markdown.

    `arithmetic` is how the two columns of numbers were computed, None where portably.
    """
    titles = {side: f"{side}, {kind}" if kind else side for side, kind in arithmetic.items()}
    verdict = {0: "✓ holds", 1: "✗ regression", 2: "? can't judge"}[status]
    marks = {HOLDS: "✓", REGRESSION: "✗", UNKNOWN: "?"}
    table = pd.DataFrame(
        {
            "metric": [row.metric for row in rows],
            titles["baseline"]: [_text(row.baseline) for row in rows],
            titles["now"]: [_text(row.now) for row in rows],
            "change": [
                "" if row.change is None else f"{round(row.change, 4) + 0.0:+.4f}" for row in rows
            ],
            "tolerance": ["" if row.tolerance is None else f"{row.tolerance:.4f}" for row in rows],
            "verdict": [f"{marks[row.verdict]} {row.reason or row.verdict}" for row in rows],
        }
    )
    align = ("left", "right", "right", "right", "right", "left")
    parts = [
        f"### Check against {baseline}: {verdict}",
        table.to_markdown(index=False, disable_numparse=True, colalign=align),
    ]
    if paired:
        parts.append(
            f"Of the test images {paired['broken']} went from right to wrong"
            f" and {paired['fixed']} from wrong to right"
            f" (McNemar's exact test: p = {paired['p']:.2g})."
        )
        if paired["classes"]:
            lines = [
                f"- {name}: {test['broken']} broken, {test['fixed']} fixed"
                for name, test in paired["classes"].items()
            ]
            parts.append("Classes in which the change stands out:\n" + "\n".join(lines))
    if problems:
        parts.append(
            "Results that do not belong to what is here:\n"
            + "\n".join(f"- {problem}" for problem in problems)
        )
    return "\n\n".join([*parts, *remarks]) + "\n"


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    # 1 is for a regression: whatever else ends it, it could not judge
    try:
        with exit_on_user_error("check", status=2):
            status = main()
    except Exception:
        traceback.print_exc()
        status = 2
    sys.exit(status)
