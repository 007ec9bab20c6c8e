"""Compare runs on one self-contained page, report.html: `make report`."""

from pathlib import Path

from fashion.core.errors import UserError
from fashion.core.files import atomic_write
from tools.arguments import parser_of
from tools.dvc import commits_with_experiments, resolve_revision
from tools.experiments.results import Result, exclude_sweep_trials
from tools.experiments.up_to_date import inputs_at
from tools.git import head
from tools.process import command_line
from tools.report.page import render_page

PAGE = Path("report.html")


def main() -> None:
    parser = parser_of("report", __doc__)
    parser.add_argument(
        "revisions",
        metavar="REVISION",
        nargs="*",
        help="experiments, branches, tags or commits;"
        " default: all experiments of this commit except the trials of sweeps",
    )
    results = find_results(parser.parse_args().revisions)
    with atomic_write(PAGE) as tmp_path:
        tmp_path.write_text(render_page(results), encoding="utf-8")
    names = ", ".join(result.name for result in results)
    print(f"Written: {PAGE}, comparing {names}. Open it in a browser.")


def find_results(names: list[str]) -> list[Result]:
    """Return the results of the named revisions, by default of this commit's experiments.

    Raises UserError if a revision does not exist, or if no name is given and none is found.
    """
    revisions = {name: resolve_revision(name) for name in names} or find_experiments()
    if not revisions:
        raise UserError(
            "this commit has no experiments yet."
            " `make experiments` runs them, or name revisions to compare"
        )
    return [Result(name, revision) for name, revision in revisions.items()]


def find_experiments() -> dict[str, str]:
    """Return the experiments of this commit except the trials of sweeps: revision by name.

    DVC keeps experiments with one commit, and this one may have changed nothing but a page of text.
    So if it has none, return those of the nearest commit that has some, provided that its pipeline
    is the same.
    """
    for commit in commits_with_experiments():
        if experiments := exclude_sweep_trials(commit):
            if commit == head():
                return experiments
            if inputs_at(commit) != inputs_at("HEAD"):
                return {}
            print(
                f"The experiments are those of commit {commit[:7]}. Nothing that they depend on has"
                " changed since. `make experiments` adds them to this commit."
            )
            return experiments
    return {}


if __name__ == "__main__":
    with command_line("report"):
        main()
