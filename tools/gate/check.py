"""Judge whether a change made the model worse: `make check`, `python -m tools.gate.check`.

Rebuilds the candidate (HEAD with the uncommitted changes) from the raw files in a clean clone.
Scores its model, and models trained with further seeds, with the baseline's code on the baseline's
images, and judges the scores by the baseline's rules. Prints a report in Markdown. Exit status 0:
no regression; 1: a regression; 2: it cannot judge, for any reason.
"""

import os
import sys
import time
import traceback
from pathlib import Path

if __name__ == "__main__":
    # Import only installed packages, and `fashion` and `tools` from this checkout: no module that
    # somebody put beside them or on PYTHONPATH.
    project = str(Path(__file__).parents[2])
    foreign = [str(Path(p).absolute()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    sys.path[:] = [path for path in sys.path if path not in ("", project, *foreign)] + [project]


def main() -> int:
    # imported below the lines above, and where a failing import has status 2
    from tools.arguments import parser_of, positive_int
    from tools.gate.report import report

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
        help="commit, branch, tag or experiment (default: the commit that the change started from)",
    )
    parser.add_argument(
        "--seeds", metavar="N", type=positive_int, help="train at most N further seeds"
    )
    arguments, started = parser.parse_args(), time.monotonic()
    if not arguments.candidate.is_dir():
        parser.error(f"--candidate: there is no folder {arguments.candidate}")
    os.chdir(arguments.candidate)
    status, text = report(arguments.baseline, arguments.seeds)
    text = f"{text}\n\nDecided in {time.monotonic() - started:.0f} s.\n"
    print(text)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
    return status


if __name__ == "__main__":
    try:
        from tools.process import command_line

        with command_line("check", status=2):
            status = main()
    except Exception:  # Python's own status would be 1, which means a regression
        traceback.print_exc()
        status = 2
    sys.exit(status)
