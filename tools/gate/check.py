"""Did a change make the model worse?  `make check`, or `python -m tools.gate.check`.

Rebuilds the candidate, which is HEAD with the uncommitted changes, from the raw files in a clean
clone; scores its model, and those of further seeds, with the code of the baseline on the baseline's
images; and judges the scores by the baseline's rules. Prints a report in Markdown. Exit status 0:
no loss, or nothing changed; 1: a regression; 2: it cannot judge, whatever the reason.
"""

import os
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    # Only installed packages are imported, and from this checkout `fashion`, `stages` and `tools`:
    # no module that somebody put beside them or on PYTHONPATH.
    project = str(Path(__file__).parents[2])
    foreign = [str(Path(p).absolute()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:] = [path for path in sys.path if path not in ("", project, *foreign)] + [project]


def main() -> int:
    from tools.arguments import parser_of, positive_int

    parser = parser_of("check", __doc__)
    parser.add_argument(
        "--candidate",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="the checkout to judge (default: this folder); its own gate is not used",
    )
    parser.add_argument(
        "--baseline",
        metavar="REV",
        help="commit, branch, tag or experiment; default: what the change started from",
    )
    parser.add_argument(
        "--seeds", metavar="N", type=positive_int, help="train at most N further seeds"
    )
    arguments = parser.parse_args()
    if not arguments.candidate.is_dir():
        parser.error(f"--candidate: there is no folder {arguments.candidate}")
    os.chdir(arguments.candidate)
    return check(arguments.baseline, arguments.seeds)


def check(revision: str | None, most: int | None) -> int:
    """Judge the project in the current folder, print the report, and return the exit status."""
    from tools.gate.report import markdown

    started = time.monotonic()
    report = find(revision, most)
    text = f"{markdown(report)}\nDecided in {time.monotonic() - started:.0f} s.\n"
    print(text)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
    return report.status


def find(revision: str | None, most: int | None):
    """Return what is found of the project in the current folder, as a `Report`."""
    from fashion.core.errors import UserError
    from tools.gate.baseline import find_baseline
    from tools.gate.candidate import CannotJudge
    from tools.gate.judge import judge
    from tools.gate.report import PASSED, UNKNOWN, Report, verdict_of
    from tools.gate.review import edits_of_the_gate, is_unchanged
    from tools.git import commit_workspace, head

    options = [f"--baseline {revision}"] if revision else []
    options += [f"--seeds {most}"] if most else []
    report = Report(UNKNOWN, "cannot judge", " ".join(options))
    try:
        candidate = commit_workspace()
        baseline = find_baseline(revision, candidate != head())
        compared = f"Compared with {baseline.commit[:7]}, {baseline.description}."
        report = replace(report, compared=compared)
        if is_unchanged(baseline.commit, candidate):
            reason = "Outside of docs and README, all files are the baseline's."
            return replace(report, status=PASSED, verdict="nothing changed", reason=reason)
        report = replace(report, review=edits_of_the_gate(baseline.commit, candidate, None))
        found = judge(baseline.commit, candidate, most)
    except CannotJudge as error:
        return replace(report, verdict=error.verdict, reason=error.heading, unknown=error)
    except UserError as error:
        return replace(report, reason=str(error))
    status, verdict, reason = verdict_of(found)
    review = edits_of_the_gate(baseline.commit, candidate, found)
    report = replace(report, status=status, verdict=verdict, reason=reason)
    return replace(report, judgement=found, review=review)


if __name__ == "__main__":
    # 1 is for a regression: whatever else ends the command, it could not judge
    try:
        from tools.process import command_line

        with command_line("check", status=2):
            status = main()
    except Exception:
        traceback.print_exc()
        status = 2
    sys.exit(status)
