"""What `check` found, as Markdown: the verdict first, then what it rests on."""

import re
from dataclasses import asdict, dataclass, field

import pandas as pd

from tools.gate.sequential import Comparison, Look

PASSED, FAILED, UNKNOWN = 0, 1, 2  # exit status
MARKS = {PASSED: "✓", FAILED: "✗", UNKNOWN: "?"}


@dataclass
class Report:
    """All that there is to say. The verdict and the baseline are the first line."""

    baseline: str
    status: int = PASSED
    verdict: str = "holds"
    reason: str = ""  # in a sentence
    sections: dict[str, list[str]] = field(default_factory=dict)  # heading: lines
    notes: list[str] = field(default_factory=list)
    comparisons: dict[str, list[Comparison]] = field(default_factory=dict)  # by what with
    looks: dict[str, Look] = field(default_factory=dict)  # likewise
    settled: dict[str, bool] = field(default_factory=dict)  # likewise
    accepted: bool | None = None  # the rules, where the change has others
    runs: int = 0
    seconds: float = 0.0
    images: pd.DataFrame | None = None  # broken and fixed, by class

    def as_json(self) -> dict:
        values = asdict(self)
        values["images"] = None if self.images is None else self.images.to_dict("records")
        return values


def escape(text: object) -> str:
    """Return text that Markdown shows as it is, in one line; code stays between backticks."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\*\[\]<|~#]|(?<!\w)_|_(?!\w))", r"\\\1", line)


def markdown(report: Report) -> str:
    parts = [f"### {MARKS[report.status]} {report.verdict}: compared with {report.baseline}"]
    if report.reason:
        parts.append(report.reason)
    parts += [
        f"**{heading}**\n\n" + "\n".join(f"- {escape(line)}" for line in lines)
        for heading, lines in report.sections.items()
    ]
    parts += [_table(name, rows, report.looks[name]) for name, rows in report.comparisons.items()]
    if report.images is not None:
        parts.append(_images(report.images))
    parts += report.notes
    parts.append(
        f"Decided in {report.seconds:.0f} s"
        + (f", by {report.runs} run{'s' * (report.runs > 1)}." if report.runs else ".")
    )
    return "\n\n".join(parts) + "\n"


def _table(title: str, rows: list[Comparison], look: Look) -> str:
    table = pd.DataFrame(
        {
            "metric": [escape(row.metric) for row in rows],
            title: [f"{row.baseline:.4f}" for row in rows],
            "now": [f"{row.now:.4f}" for row in rows],
            "change": [f"{round(row.now - row.baseline, 4) + 0.0:+.4f}" for row in rows],
            "± by chance": [f"{row.chance(look):.4f}" for row in rows],
            "margin": [f"{row.margin:g}" for row in rows],
            "verdict": [_row_verdict(row, look) for row in rows],
        }
    )
    align = ("left", *("right",) * 5, "left")
    return table.to_markdown(index=False, disable_numparse=True, colalign=align)


def _row_verdict(row: Comparison, look: Look) -> str:
    if row.t >= look.worse:
        return "✗ worse than chance explains"
    if row.is_worse_by_pairs(look):
        return "✗ worse, seed by seed"
    return "✓ holds"


def _images(images: pd.DataFrame) -> str:
    broken, fixed = images[["broken", "fixed"]].sum()
    text = (
        f"Of the test images {broken:,} went from right to wrong and {fixed:,} from wrong to right"
        " between the two committed runs. That is one seed each, and another seed alone does"
        " as much, so it describes and does not decide."
    )
    if broken + fixed == 0:
        return text
    table = images.assign(**{"class": images["class"].map(escape)})
    return f"{text}\n\n{table.to_markdown(index=False)}"
