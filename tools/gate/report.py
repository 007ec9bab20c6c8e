"""Write what `check` found as Markdown, the verdict first, in lines of at most 100 columns."""

import re
import textwrap
from dataclasses import dataclass, field

import pandas as pd

from tools.gate.candidate import CannotJudge
from tools.gate.judge import BASELINE, Judgement
from tools.gate.sequential import NO_LOSS, REGRESSION, Comparison

PASSED, FAILED, UNKNOWN = 0, 1, 2  # exit status
MARKS = {PASSED: "✓", FAILED: "✗", UNKNOWN: "?"}
WIDTH = 100
NAME_WIDTH = 26
MOST_LINES = 20  # of a list
UNREMARKABLE = ("no loss", "open")
CLASS_CHANGE = 0.02  # a change of F1 that is shown above the fold
COLUMNS = (
    "baseline and candidate are means over seeds; committed is the one run that users get. chance"
    " is the largest loss that chance explains. In the last column, no loss says that a loss of the"
    " metric's margin is ruled out, up to X that a loss of up to X is not, open that further seeds"
    " would tell."
)
REVIEW = "**For the reviewer: this change edits what judges it**"
NO_EFFECT = "The edits have no effect on this verdict. They count from the next change on."


@dataclass(frozen=True)
class Report:
    """All that is said: the verdict, with the options that weaken it, and what it rests on."""

    status: int
    verdict: str
    options: str
    compared: str = ""  # with which commit, in a sentence
    reason: str = ""
    unknown: CannotJudge | None = None
    judgement: Judgement | None = None
    review: list[str] = field(default_factory=list)  # what edits the gate itself


def verdict_of(found: Judgement) -> tuple[int, str, str]:
    """Return exit status, verdict and reason of a judgement."""
    row, runs = found.decisive, len(found.runs)
    count = f"{runs} further seed{'s' * (runs != 1)}"
    if found.finding == REGRESSION:
        why = f"is worse than the {found.against} by {row.loss:.4f}"
        why += f"; chance explains {row.chance:.4f}"
        if row.is_below_floor:
            why = f"is {row.candidate:.4f}, and its floor is {row.rule.floor:g}"
        where = f"over {runs} seeds" if runs else "in the committed run"
        return FAILED, "regression", f"{shown(row.metric)} {why}, {where}."
    if found.finding == NO_LOSS:
        reason = f"With {count}, a loss of its margin is ruled out for every metric and class."
        return PASSED, "no loss", reason
    verdict = f"a loss of up to {row.largest_loss:.4f} in {shown(row.metric)} is not ruled out"
    reason = f"With {count}, no metric and no class is worse than chance explains."
    return PASSED, verdict, f"{reason} More seeds would narrow it down."


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    options = f" ({report.options})" if report.options else ""
    parts = [f"### {MARKS[report.status]} {escape(report.verdict + options)}"]
    parts += [paragraph(report.compared), paragraph(report.reason)]
    if error := report.unknown:
        output = [textwrap.shorten(line, WIDTH, placeholder="…") for line in error.output]
        parts += [bullets(error.lines), "\n".join(["```text", *output, "```"]) if output else ""]
    if found := report.judgement:
        parts += [class_changes(found), *(table(name, found) for name in found.comparisons)]
        parts += [paragraph(COLUMNS), bullets(found.remarks)]
    if report.review:
        parts += [REVIEW, bullets(report.review), NO_EFFECT]
    return "\n\n".join(part for part in parts if part) + "\n"


def class_changes(found: Judgement) -> str:
    """Return a list of the classes whose F1 changed most, with precision and recall."""
    rows = [row for row in found.comparisons[BASELINE] if row.metric.startswith("class_f1/")]
    rows = [row for row in rows if abs(row.loss) >= CLASS_CHANGE or row.is_worse]
    means = (found.runs if len(found.runs) else pd.DataFrame([found.shipped])).mean()
    texts = []
    for row in sorted(rows, key=lambda row: -abs(row.loss))[:5]:
        name = row.metric.removeprefix("class_f1/")
        precision, recall = means[f"class_precision/{name}"], means[f"class_recall/{name}"]
        texts.append(
            f"{name}: F1 {row.baseline:.3f} → {row.candidate:.3f},"
            f" precision {precision:.3f}, recall {recall:.3f}"
        )
    return f"Classes that changed most:\n\n{bullets(texts)}" if texts else ""


def table(name: str, found: Judgement) -> str:
    """Return the metrics, and the classes that are worth a look, a row each."""
    rows = found.comparisons[name]
    listed = [row for row in rows if not row.is_class or finding(row) not in UNREMARKABLE]
    cells = [
        ["metric", name, "candidate", "committed", "change", "chance", "finding"],
        ["---", *["--:"] * 5, "---"],
        ["runs", len(found.opponents[name]), rows[0].analysis.runs, 1, "", "", ""],
    ]
    for row in listed:
        values = row.baseline, row.candidate, found.shipped[row.metric]
        change = round(row.candidate - row.baseline, 4) + 0.0  # no minus before a zero
        numbers = [*(f"{value:.4f}" for value in values), f"{change:+.4f}", f"{row.chance:.4f}"]
        cells.append([escape(shown(row.metric)), *numbers, finding(row)])
    widths = [max(len(str(cell)) for cell in column) for column in zip(*cells, strict=True)]
    formats = [f"{{!s:{'>' if 0 < at < 6 else '<'}{width}}}" for at, width in enumerate(widths)]
    text = "\n".join(f"| {' | '.join(formats).format(*line)} |" for line in cells)
    rest = [row for row in rows if row not in listed]
    return f"{text}\n\nAnother {len(rest)} classes: {finding(rest[0])}." if rest else text


def finding(row: Comparison) -> str:
    """Return what is found of one metric, in at most 13 characters."""
    if row.is_below_floor:
        return "below floor"
    if row.is_worse:
        return "worse"
    if row.is_better:
        return "better"
    if row.largest_loss < row.rule.margin:
        return "no loss"
    return "open" if row.analysis.not_worse is None else f"up to {row.largest_loss:.4f}"


def shown(metric: str) -> str:
    """Return a metric's name as people read it, cut where it is long."""
    name = metric.replace("class_f1/", "F1 of ", 1)
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"


def escape(text: object) -> str:
    """Return text that Markdown shows as it is, in one line; code stays between backticks."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\*\[\]<|~#]|(?<!\w)_|_(?!\w))", r"\\\1", line)


def paragraph(text: str, first: str = "", others: str = "") -> str:
    """Return text in lines of at most WIDTH; `first` and `others` begin them."""
    indents = {"initial_indent": first, "subsequent_indent": others}
    return textwrap.fill(escape(text), WIDTH, break_on_hyphens=False, **indents)


def bullets(lines: list[str]) -> str:
    """Return a list of at most MOST_LINES."""
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return "\n".join(paragraph(line, "- ", "  ") for line in [*lines[:MOST_LINES], *more])
