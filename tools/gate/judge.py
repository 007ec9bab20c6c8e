"""How `check` judges: what is refused, what is looked at again, and when it is settled."""

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
from joblib import cpu_count

from fashion.errors import UserError
from fashion.files import write_json
from fashion.strict_yaml import read_yaml
from stages.dataset import DATASET
from stages.params import PARAMS
from tools.dvc import dvc
from tools.dvc_lock import lock_at, read_lock
from tools.experiments.results import Result
from tools.experiments.up_to_date import run_missing
from tools.fsck import NOT_MADE, is_made
from tools.gate import evidence
from tools.gate.baseline import ANOTHER, Baseline, find_baseline
from tools.gate.config import GATE, Gate
from tools.gate.declarations import find_refusals
from tools.gate.evidence import CannotJudge, Yardstick
from tools.gate.noise import NOISE, REFERENCE, conditions, parse_noise
from tools.gate.rules import Rules, fingerprint, parse_gate, parse_rules, read_files, rule_changes
from tools.gate.sequential import HOLDS, REGRESSION, compare, plan_looks, verdict
from tools.gate.summary import FAILED, PASSED, UNKNOWN, Report, escape, markdown
from tools.git import git, list_experiments, yaml_at

PREFIX = "check-seed-"  # of experiments


def check(revision: str | None, seeds: int, accepted: str | None, json_path: Path | None) -> int:
    """Judge the workspace, print the report, and return the exit status."""
    started = time.monotonic()
    report = Report(escape(revision or "what the change started from"))
    try:
        baseline = find_baseline(revision)
        report.baseline = f"{baseline.commit[:7]} ({escape(baseline.what)})"
        judge(report, baseline, seeds, accepted)
    except UserError as error:
        reason = error if isinstance(error, CannotJudge) else CannotJudge("", "Why", [str(error)])
        report.status = UNKNOWN
        report.verdict = f"can't judge, {reason.verdict}" if reason.verdict else "can't judge"
        report.sections[reason.heading] = reason.lines
    if report.status == PASSED and report.accepted is False:
        report.status, report.verdict = UNKNOWN, "holds, but the rules change"
    report.seconds = time.monotonic() - started
    text = markdown(report)
    print(text)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
    if json_path:
        write_json(json_path, report.as_json())
    return report.status


def judge(report: Report, baseline: Baseline, seeds: int, accepted: str | None) -> None:
    """Fill in the report. Raises CannotJudge, or another UserError, where nothing can be said."""
    if not is_made():
        raise UserError(f"{NOT_MADE}: `make`")
    commit, in_ci = baseline.commit, bool(os.environ.get("CI"))
    _refuse("refused", "This would hide a change", find_refusals(commit))
    _refuse(
        "results are out of date",
        "Not of the code, params and data that are here",
        evidence.find_stale_outputs(),
    )
    note_rules(report, commit, accepted)
    now = evidence.read_metrics()
    before, after = lock_at(commit), read_lock()
    if before == after:
        report.reason = "All results are the baseline's, to the byte."
        if in_ci:
            require_reproduced(report)
        return
    _refuse(
        "results contradict each other",
        "Computed again from the predictions",
        evidence.check_predictions(now),
    )
    with ExitStack() as stack:
        yardstick = None
        if not evidence.is_yardstick_the_same(commit):
            yardstick = stack.enter_context(Yardstick(commit))
            _refuse(
                "measured on other images",
                "Not the same as the baseline's",
                yardstick.compare_data(),
            )
            _require_scores(yardstick, evidence.MODEL, now, "the model")
            report.notes.append(
                "Code outside of tools/ or prepared images are not the baseline's; its code gives"
                " the model the same scores, on its images."
            )
        if seeds > 1 or in_ci:
            require_reproduced(report)
        try:
            report.images = evidence.changed_images(commit)
        except UserError as error:
            report.notes.append(f"Test images are not compared one by one: {escape(error)}.")
        old = evidence.read_metrics(commit)
        if evidence.same_model(before, after) and old == {name: now.get(name) for name in old}:
            report.reason = "The model and its metrics are the baseline's, to the byte."
            return
        decide(report, commit, now, yardstick, seeds, accepted)


def _require_scores(
    yardstick: Yardstick, model: Path, metrics: dict[str, float], name: str
) -> None:
    _refuse(
        "the baseline's code gives other scores",
        f"{name}, scored by the code of {yardstick.commit[:7]}",
        yardstick.compare_scores(model, metrics),
    )


def _refuse(verdict: str, heading: str, lines: list[str]) -> None:
    if lines:
        raise CannotJudge(verdict, heading, lines)


def require_reproduced(report: Report) -> None:
    """Run everything again from the raw data, and compare."""
    print("check: running all stages again, from the raw data", file=sys.stderr, flush=True)
    _refuse(
        "results can't be reproduced",
        "Run again from the raw data, all stages",
        evidence.rerun(),
    )
    report.notes.append("All stages were run again from the raw data: equal to the byte.")


def note_rules(report: Report, commit: str, accepted: str | None) -> None:
    """List in which way the rules here are other than the baseline's."""
    before, now = read_files(commit), read_files(None)
    if changes := rule_changes(before, now):
        ours = fingerprint(now)
        report.sections["The rules change"] = changes
        report.accepted = accepted == ours
        report.notes.append(
            "These rules are accepted; they hold from the next change on."
            if report.accepted
            else f"Judged by the baseline's. After review, `--accept-rules {ours}` accepts these."
        )
    if str(GATE) in now:
        parse_gate(now[str(GATE)], str(GATE))
    if str(NOISE) in now:
        measured = parse_noise(now[str(NOISE)], str(NOISE)).params
        here = conditions(read_yaml(PARAMS), read_yaml(DATASET))
        if other := [name for name in here if here[name] != measured.get(name)]:
            report.notes.append(
                f"{NOISE} was measured for other params ({', '.join(other)}): `make noise`, and"
                " commit it with the results, so that the next change can be judged."
            )


def rules_of(commit: str, accepted: str | None) -> Rules:
    """Return the baseline's rules; where these can't be read, those here if they are accepted."""
    files, here = read_files(commit), read_files(None)
    try:
        rules = parse_rules(files, commit[:7])
    except UserError as error:
        if accepted != fingerprint(here):
            raise CannotJudge("the baseline has no rules", "What is wrong", [str(error)]) from None
        return parse_rules(here, "the workspace")
    params, dataset = (yaml_at(commit, path) for path in (PARAMS, DATASET))
    if rules.noise.params != conditions(params, dataset):
        raise UserError(
            f"{NOISE} of {commit[:7]} was measured for other params than it has,"
            f" so its mean over seeds is not known. {ANOTHER}"
        )
    if rules.reference and rules.reference.params["dataset"] != rules.noise.params["dataset"]:
        raise UserError(f"{REFERENCE} of {commit[:7]} was measured on other data. {ANOTHER}")
    return rules


def decide(
    report: Report,
    commit: str,
    now: dict[str, float],
    yardstick: Yardstick | None,
    most: int,
    accepted: str | None,
) -> None:
    """Look at more and more runs until it is settled; at the last look, what is not worse holds."""
    rules = rules_of(commit, accepted)
    gate, columns = rules.gate, list(rules.gate.metrics)
    baselines = {f"baseline ({len(rules.noise.seeds)} seeds)": rules.noise.table[columns]}
    if rules.reference and rules.reference.metrics != rules.noise.metrics:
        baselines["reference"] = rules.reference.table[columns]
    plans = {name: plan_looks(table, gate, len(baselines)) for name, table in baselines.items()}
    first = yaml_at(commit, PARAMS)["seed"]
    order = list(dict.fromkeys([first, *rules.noise.seeds]))
    runs = {}
    if (seed := read_yaml(PARAMS)["seed"]) == first:
        runs[seed] = now
    else:
        report.notes.append(
            f"The seed was changed from {first} to {seed}, so the run here settles nothing:"
            " the seeds are the baseline's."
        )
    for looks in zip(*plans.values(), strict=True):
        count = looks[0].runs
        if count > min(most, len(order)) or (count == 1 and not runs):
            continue
        runs |= run_seeds([seed for seed in order[:count] if seed not in runs], yardstick)
        table = pd.DataFrame(runs).T.rename_axis("seed")
        if missing := [name for name in columns if name not in table]:
            raise UserError(
                f"there is no {', '.join(missing)} in {evidence.TRAIN} or {evidence.TEST}"
            )
        report.runs, report.looks = len(runs), dict(zip(plans, looks, strict=True))
        report.comparisons = {
            name: compare(before, table[columns], gate) for name, before in baselines.items()
        }
        if conclude(report, gate, last=count == gate.looks[-1]):
            return
    if not report.runs:
        raise UserError(f"--seeds {most} allows none of the looks, {gate.looks}, at these seeds")


def run_seeds(seeds: list[int], yardstick: Yardstick | None) -> dict[int, dict[str, float]]:
    """Run the workspace with these seeds, side by side; return the metrics of each."""
    if not seeds:
        return {}
    planned = {f"{PREFIX}{seed}": {"seed": seed} for seed in seeds}
    try:
        results = run_missing(planned, read_yaml(PARAMS), cpu_count())
        return {
            seed: _metrics_of(result, yardstick)
            for seed, result in zip(seeds, results.values(), strict=True)
        }
    finally:
        if kept := planned.keys() & list_experiments(git("rev-parse", "HEAD").strip()).keys():
            dvc("exp", "remove", "--quiet", *kept)


def _metrics_of(result: Result, yardstick: Yardstick | None) -> dict[str, float]:
    metrics = evidence.read_metrics(result.revision)
    if yardstick:  # an evaluation could be honest about one seed alone
        _require_scores(
            yardstick,
            evidence.cached_model(result.revision),
            metrics,
            f"the model of {result.name}",
        )
    return metrics


def conclude(report: Report, gate: Gate, last: bool) -> bool:
    """Fill in the verdict by the runs so far; return whether it is settled."""
    of_runs = f"after {report.runs} run{'s' * (report.runs > 1)}"
    for name, comparisons in report.comparisons.items():
        for row in comparisons:
            floor, better = gate.metrics[row.metric].floor, gate.metrics[row.metric].better
            if floor is not None and (row.now < floor if better == "higher" else row.now > floor):
                report.status, report.verdict = FAILED, "regression"
                report.reason = f"{row.metric} is {row.now:.4f} {of_runs}; its floor is {floor:g}."
                return True
        found, row = verdict(comparisons, report.looks[name])
        if found == REGRESSION:
            report.status, report.verdict = FAILED, "regression"
            report.reason = (
                f"{row.metric} decided {of_runs}: worse than {name} by {row.loss:.4f}, where chance"
                f" explains {row.chance(report.looks[name]):.4f}."
            )
            return True
        report.settled[name] = found == HOLDS
    if all(report.settled.values()):
        report.reason = (
            f"No metric is worse than chance explains, and losses of their margins are ruled out,"
            f" {of_runs}."
        )
        return True
    open_ = [
        f"{row.metric} (up to {row.largest_loss(report.looks[name]):.4f})"
        for name, comparisons in report.comparisons.items()
        for row in comparisons
        if row.largest_loss(report.looks[name]) >= row.margin
    ]
    report.reason = (
        f"No metric is worse than chance explains {of_runs}. Losses of their margins are not"
        f" ruled out for {', '.join(dict.fromkeys(open_))}"
        + (", and no further look is planned." if last else "; more seeds would see closer.")
    )
    return last
