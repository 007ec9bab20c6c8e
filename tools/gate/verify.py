"""Rebuild a commit from the raw data and compare every output: `make verify`.

Runs the commit's stages in a clean clone and lists what differs. Exit status 0: all outputs are
those of dvc.lock and Git. 3: some differ, but the metrics name native arithmetic or another kind of
machine, and agree within the measured noise. 1: anything else. Nothing in the workspace changes.
"""

import sys
from typing import Any

from fashion.core.errors import UserError
from tools.arguments import parser_of
from tools.dvc import resolve_revision
from tools.gate.noise import OUTLIER, noise_at
from tools.git import head
from tools.pipeline import changed_pins, clean_clone
from tools.process import command_line

WITHIN_NOISE = 3  # exit status


def main() -> int:
    parser = parser_of("verify", __doc__)
    parser.add_argument(
        "revision", metavar="REV", nargs="?", default="HEAD", help="commit, branch or tag"
    )
    revision = parser.parse_args().revision
    commit = resolve_revision(revision)
    name = f"{revision} ({commit[:7]})"
    if changed_pins(head(), commit):
        back = f"`git checkout {commit[:7]} && make verify` installs them first"
        raise UserError(f"{name} pins other packages, without which its stages do not run. {back}")
    with clean_clone("verify", commit) as pipeline:
        print(f"Running all stages of {name} from the raw data", flush=True)
        committed, found, rebuilt = pipeline.metrics(), pipeline.rebuild(), pipeline.metrics()
        outputs = {str(path) for stage in pipeline.stages for path in stage.outputs}
    if not found:
        print(f"{name}: all {len(outputs)} outputs are equal to the byte.")
        return 0
    print(*(f"- {path} {how}" for path, how in found.items()), sep="\n")
    different = f"{name}: {len(outputs & found.keys())} of {len(outputs)} outputs differ"
    sides = {"committed": committed.get("environment"), "here": rebuilt.get("environment")}
    others = [f"{side}: {environment}" for side, environment in sides.items() if environment]
    if not others:
        print(f"{different}, though the pinned packages computed both: they should be equal.")
        return 1
    print(f"{different} because of the environment ({', '.join(others)}).")
    if exceeding := beyond_noise(commit, committed, rebuilt):
        print(f"Noise does not explain these differences: {'; '.join(exceeding)}.")
        return 1
    print("The metrics agree within noise.")
    return WITHIN_NOISE


def beyond_noise(commit: str, committed: dict[str, Any], rebuilt: dict[str, Any]) -> list[str]:
    """Return the metrics that differ by more than OUTLIER standard deviations over seeds.

    Raises UserError if the commit has no noise.
    """
    noise = noise_at(commit)
    limits = OUTLIER * noise[[name for name in noise if name in committed]].std()
    return [
        f"{name}: {committed[name]:.4f} -> {rebuilt[name]:.4f}, by chance at most {limit:.4f}"
        for name, limit in limits.items()
        if abs(rebuilt[name] - committed[name]) > limit
    ]


if __name__ == "__main__":
    with command_line("verify"):
        sys.exit(main())
