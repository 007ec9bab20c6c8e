"""Does the rebuild in this working copy equal what is committed? `make reproduced`, after `make`.

Equal means every byte of dvc.lock, metrics and plots. In another environment than the recorded one the bits differ, and
then the accuracy must agree within 1.5 percentage points. Exit status 0 when it holds, else 1.
"""

import json
from pathlib import Path

from fashion.errors import UserError, reported
from tools.git import git

COMPARED = ["dvc.lock", "metrics", "plots"]
ENVIRONMENT, SCORES = "metrics/environment.json", "metrics/test.json"
TOLERANCE = 0.015  # of the accuracy: 1.5 percentage points


def main() -> None:
    changed = git("diff", "--name-only", "HEAD", "--", *COMPARED).splitlines()
    if not changed:
        return print(f"Reproduced: {', '.join(COMPARED)} are the committed ones to the byte.")
    print("Differs from what is committed:", *changed, sep="\n  ")
    if ENVIRONMENT not in changed:
        raise UserError("the environment is the recorded one, so all should be equal. `git diff` shows what is not")
    print(git("diff", "HEAD", "--", ENVIRONMENT))
    before, now = json.loads(git("show", f"HEAD:{SCORES}"))["accuracy"], json.loads(Path(SCORES).read_text())["accuracy"]
    print(f"Another environment than the recorded one. Accuracy: {before:.4f} committed, {now:.4f} now.")
    if abs(now - before) > TOLERANCE:
        raise UserError(f"they differ by more than {TOLERANCE}")


if __name__ == "__main__":
    with reported("reproduced"):
        main()
