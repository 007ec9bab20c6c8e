"""Did a change make the model worse?  `make check`.

Compares the workspace with the commit that the change started from, and prints Markdown, the
verdict first. The question is not whether one run is worse than another, as seeds alone make a
difference, but whether the distribution over seeds got worse: where the committed run does not
settle it, further seeds are run, a few at a time (tools/gate/sequential.py). The baseline's rules
hold, its images and its code measure, and nobody's word is taken for the results
(tools/gate/evidence.py). Exit status 0: holds; 1: a metric got worse; 2: it can't judge, whatever
the reason.
"""

import argparse
import sys
import traceback
from pathlib import Path


def main() -> int:
    from tools.arguments import positive_int
    from tools.gate.judge import check

    parser = argparse.ArgumentParser(prog="check", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--baseline",
        metavar="REV",
        help="commit, branch, tag or experiment; default: what the change started from",
    )
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=positive_int,
        default=sys.maxsize,
        help="look at N runs at most; 1: at the committed one as it is, and nothing is trained",
    )
    parser.add_argument(
        "--accept-rules", metavar="HASH", help="the changed rules that a reviewer has accepted"
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="write what was found there as well"
    )
    arguments = parser.parse_args()
    return check(arguments.baseline, arguments.seeds, arguments.accept_rules, arguments.json)


if __name__ == "__main__":
    # 1 is for a regression: whatever else ends it, it could not judge
    try:
        from fashion.errors import exit_on_user_error

        with exit_on_user_error("check", status=2):
            status = main()
    except Exception:
        traceback.print_exc()
        status = 2
    sys.exit(status)
