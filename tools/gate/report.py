"""Judge a change and report it as Markdown, the verdict first, in lines of at most 100 columns."""

import re
import textwrap
from collections.abc import Sequence

import pandas as pd

from fashion.core.errors import UserError
from tools.gate.baseline import find_baseline
from tools.gate.judge import BASELINE, CannotJudge, Judgement, judge
from tools.gate.review import edits_of_the_gate, is_unchanged
from tools.gate.sequential import BELOW_FLOOR, NO_LOSS, REGRESSION, UNDECIDED, WORSE, decide
from tools.git import commit_workspace, head
from tools.tables import markdown

PASSED, FAILED, UNKNOWN = 0, 1, 2  # exit status
MARKS = {PASSED: "✓", FAILED: "✗", UNKNOWN: "?"}
WIDTH = 100
NAME_WIDTH = 26
MAX_LINES = 20  # of a list
CLASS_CHANGE = 0.02  # smaller changes of a class's F1 are not listed
FORMATS = ("", ".4f", ".4f", ".4f", "+.4f", ".4f", "")  # of the table's columns
COLUMNS = (
    'The column "committed" is the one run that users get, "change" is candidate minus baseline,'
    ' and "chance" is the largest loss that chance explains.',
    '"no loss" means that the test rules out a loss of the metric\'s margin, "up to X" that it does'
    ' not rule out a loss of up to X, and "open" that one run is too few to tell.',
)


def report(revision: str | None, most: int | None) -> tuple[int, str]:
    """Judge the project in the current folder; return the exit status and the report.

    `revision` names the baseline, which is otherwise found. At most `most` further seeds are
    trained.
    """
    options = [f"--baseline {revision}"] if revision else []
    options += [f"--seeds {most}"] if most else []
    status, verdict, parts, commits, found = UNKNOWN, "cannot judge", [], (), None
    try:
        candidate = commit_workspace()
        baseline, description = find_baseline(revision, candidate != head())
        parts.append(paragraph(f"Compared with {baseline[:7]}, {description}."))
        if is_unchanged(baseline, candidate):
            status, verdict = PASSED, "nothing changed"
            parts.append("All files outside of docs and README are equal to the baseline's.")
        else:
            commits = baseline, candidate
            found = judge(*commits, most)
            status, verdict, reason = verdict_of(found)
            parts += [paragraph(reason), *evidence(found)]
    except CannotJudge as error:
        verdict, reason, *details = error.args
        parts.append(paragraph(reason))
        parts += [bullets(x) if isinstance(x, list) else code_block(str(x)) for x in details]
    except UserError as error:
        parts.append(paragraph(str(error)))
    if review := edits_of_the_gate(*commits, found) if commits else []:
        parts.append("**For the reviewer: this change edits what judges it**")
        parts.append(bullets(review))
        parts.append(
            "The edits have no effect on this verdict. They count from the next change on."
        )
    headline = f"{verdict} ({' '.join(options)})" if options else verdict
    parts.insert(0, f"### {MARKS[status]} {escape(headline)}")
    return status, "\n\n".join(part for part in parts if part)


def verdict_of(found: Judgement) -> tuple[int, str, str]:
    """Return the exit status, the verdict and the reason of a judgement."""
    finding, (against, name) = decide(found.rows)
    row, runs = found.rows.loc[(against, name), :], len(found.runs)
    metric, seeds = shown(name), f"seed{'s' * (runs != 1)}"
    if finding == REGRESSION:
        why = f"is worse than the {against} by {row['loss']:.4f}; chance explains"
        why = f"{why} {row['chance']:.4f}"
        if row["finding"] == BELOW_FLOOR:
            why = f"is {row['candidate']:.4f}, below its floor of {row['floor']:g}"
        where = f"over {runs} {seeds}" if runs else "in the committed run"
        return FAILED, REGRESSION, f"{metric} {why}, {where}."
    count = f"With {runs} further {seeds}"
    if finding == NO_LOSS:
        reason = f"{count}, the test rules out a loss of the margin in every metric and class."
        return PASSED, NO_LOSS, reason
    verdict = f"a loss of up to {row['possible']:.4f} in {metric} is not ruled out"
    reason = f"{count}, no metric and no class is worse than chance explains."
    return PASSED, verdict, f"{reason} More seeds would narrow this down."


def evidence(found: Judgement) -> list[str]:
    """Return the parts of the report that show the numbers, and the remarks."""
    tables = [part for name in found.opponents for part in table(name, found)]
    return [class_changes(found), *tables, bullets(COLUMNS), bullets(found.remarks)]


def class_changes(found: Judgement) -> str:
    """Return a list of the classes whose F1 changed most, with precision and recall."""
    rows = found.rows.loc[BASELINE]
    rows = rows[rows.index.str.startswith("class_f1/")]
    rows = rows[(rows["loss"].abs() >= CLASS_CHANGE) | (rows["finding"] == WORSE)]
    means = (found.runs if len(found.runs) else found.committed).mean()
    texts = []
    for metric in rows["loss"].abs().sort_values(ascending=False, kind="stable").index[:5]:
        name, row = metric.removeprefix("class_f1/"), rows.loc[metric]
        precision, recall = means[f"class_precision/{name}"], means[f"class_recall/{name}"]
        texts.append(
            f"{name}: F1 {row['baseline']:.3f} → {row['candidate']:.3f},"
            f" precision {precision:.3f}, recall {recall:.3f}"
        )
    return f"Classes that changed most:\n\n{bullets(texts)}" if texts else ""


def table(name: str, found: Judgement) -> list[str]:
    """Return a table of the metrics and of remarkable classes, and lines above and below it."""
    rows, runs = found.rows.loc[name], max(1, len(found.runs))
    text = rows["finding"].mask(
        rows["finding"] == UNDECIDED, "up to " + rows["possible"].map("{:.4f}".format)
    )
    text = text.replace("up to inf", "open")
    is_rest = rows.index.str.contains("/") & text.isin([NO_LOSS, "open"])
    columns = {
        "metric": [escape(shown(metric)) for metric in rows.index],
        name: rows["baseline"],
        "candidate": rows["candidate"],
        "committed": found.committed.iloc[0][rows.index],
        "change": (rows["candidate"] - rows["baseline"]).round(4) + 0.0,  # no minus before a zero
        "chance": rows["chance"],
        "finding": text,
    }
    counts = [f"{n} run{'s' * (n != 1)}" for n in (len(found.opponents[name]), runs)]
    return [
        f"Means of {counts[0]} of the {name} and {counts[1]} of the candidate:",
        markdown(pd.DataFrame(columns)[~is_rest], floatfmt=FORMATS),
        f"Classes not shown ({is_rest.sum()}): {text[is_rest].iloc[0]}." if is_rest.any() else "",
    ]


def shown(metric: str) -> str:
    """Return a metric's name as people read it, cut if it is long."""
    name = metric.replace("class_f1/", "F1 of ", 1)
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"


def escape(text: object) -> str:
    """Return text in one line that Markdown shows literally; code stays between backticks."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\*\[\]<|~#]|(?<!\w)_|_(?!\w))", r"\\\1", line)


def paragraph(text: str, first: str = "", others: str = "") -> str:
    """Return text in lines of at most WIDTH that begin with `first` and `others`."""
    indents = {"initial_indent": first, "subsequent_indent": others}
    return textwrap.fill(escape(text), WIDTH, break_on_hyphens=False, **indents)


def bullets(lines: Sequence[str]) -> str:
    """Return a Markdown list of at most MAX_LINES."""
    more = [f"and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else []
    return "\n".join(paragraph(line, "- ", "  ") for line in [*lines[:MAX_LINES], *more])


def code_block(output: str) -> str:
    """Return a command's output as a Markdown code block, or nothing if there is none."""
    lines = [textwrap.fill(line, WIDTH) for line in output.splitlines()]
    return "\n".join(["```text", *lines, "```"]) if lines else ""
