"""Put the current numbers into README.md and docs/, and write the model card: `make readme`.

A generated table stands between the lines `<!-- NAME -->` and `<!-- /NAME -->`, outside of code
blocks; everything between the two is replaced. Text beside the tables is not touched.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from fashion.core.errors import UserError, exit_on_user_error
from fashion.core.files import atomic_write
from tools.arguments import expect_no_arguments
from tools.experiments.results import markdown
from tools.report.card import CARD, card

CSV_TABLES = {  # by the name of their marks
    "experiments": "metrics/experiments.csv",
    "seeds": "metrics/seeds.csv",
    "gate": "metrics/gate.csv",
    "models": "metrics/seeds-models.csv",
    "ablation": "metrics/seeds-ablation.csv",
    "leave-one-out": "metrics/seeds-leave-one-out.csv",
    "sweeps": "metrics/sweeps.csv",
    "portable": "metrics/portable.csv",
}
SPEED = "metrics/speed.json"
SPEED_TABLES = ["goals", "training", "arithmetic", "growth", "many", "commits", "parts", "costs"]
FAULTS = "metrics/fault_injection.json"
MARK = re.compile(r"<!-- (?P<closing>/?)(?P<name>[a-z][a-z-]*) -->")
FENCE = "```"


def main() -> None:
    expect_no_arguments("readme", __doc__)
    contents = {CARD: card()} | render_pages()
    for path, content in contents.items():
        with atomic_write(path) as tmp_path:
            tmp_path.write_text(content, encoding="utf-8")


def pages(project: Path = Path()) -> list[Path]:
    """README.md, then every page of docs/ by name."""
    return [project / "README.md", *sorted((project / "docs").glob("*.md"))]


def render_pages(project: Path = Path()) -> dict[Path, str]:
    """The text of every page, by its path, with all tables made anew from the project's metrics.

    Raises UserError on a wrong mark, and where a table stands on no page.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in pages(project)}
    tables = make_tables(project)
    marks = (mark for text in texts.values() for _, mark in read_marks(text))
    absent = tables.keys() - {mark["name"] for mark in marks if mark}
    if absent:
        opening = " or ".join(f"<!-- {name} -->" for name in sorted(absent))
        raise UserError(
            f"no page has a table between {opening} and its closing mark. Put both on lines of"
            " their own into README.md or docs/, or take the table out of tools/report/readme.py"
        )
    return {path: render_tables(text, tables, str(path)) for path, text in texts.items()}


def render_tables(text: str, tables: dict[str, str], source: str) -> str:
    """The text with the table of that name between each pair of marks; `source` names it in errors.

    Raises UserError on a mark whose name no table has, and on one without its counterpart.
    """
    lines, block = [], None
    for number, (line, mark) in enumerate(read_marks(text), 1):
        if mark and mark["name"] not in tables:
            known = ", ".join(sorted(tables))
            name = mark["name"]
            raise UserError(f"{source}:{number}: there is no table {name}. There are: {known}")
        if mark and block != (mark["name"] if mark["closing"] else None):
            expected = f"<!-- /{block} -->" if block else "an opening mark"
            raise UserError(f"{source}:{number}: found {line}, expected {expected}")
        if mark and mark["closing"]:
            lines.append(tables[block])
            block = None
        if not block:  # or else it is replaced
            lines.append(line)
        if mark and not mark["closing"]:
            block = mark["name"]
    if block:
        raise UserError(f"{source}: <!-- {block} --> is never closed by <!-- /{block} -->")
    return "\n".join(lines)


def read_marks(text: str) -> Iterator[tuple[str, re.Match | None]]:
    """Every line of a page, with the mark that it is, if any; in code blocks there are none."""
    in_code = False
    for line in text.split("\n"):
        in_code ^= line.startswith(FENCE)
        yield line, None if in_code else MARK.fullmatch(line)


def make_tables(project: Path) -> dict[str, str]:
    """Every table as Markdown, by name. One that was not measured yet says so in its place."""
    tables = {name: csv_table(project, path) for name, path in CSV_TABLES.items()}
    tables["headline"] = headline_table(project)
    measured = read_json(project / SPEED).get("tables", {})
    for name in SPEED_TABLES:
        rows = pd.DataFrame(measured.get(name, []))
        tables[name] = rows.to_markdown(index=False, disable_numparse=True)
        if rows.empty:
            tables[name] = not_measured(SPEED)
    sections = read_json(project / FAULTS).get("sections", {})
    faults = pd.DataFrame([row for section in sections.values() for row in section])
    tables["faults"] = not_measured(FAULTS) if faults.empty else faults.to_markdown(index=False)
    return tables


def csv_table(project: Path, path: str) -> str:
    """A table of metrics/ as tools/experiments/results.py shows it."""
    if not (project / path).exists():
        return not_measured(path)
    return markdown(pd.read_csv(project / path))


def headline_table(project: Path) -> str:
    """The README's small table: the experiments, with their test accuracy over seeds."""
    paths = [project / CSV_TABLES[name] for name in ("experiments", "seeds")]
    if not all(path.exists() for path in paths):
        return not_measured(CSV_TABLES["seeds"])
    experiments, seeds = (pd.read_csv(path) for path in paths)
    seeds = of_these_experiments(experiments, seeds)
    if seeds.empty:
        return not_measured(CSV_TABLES["seeds"])
    table = headline(experiments, seeds)
    return table.to_markdown(index=False, disable_numparse=True, stralign="right")


def of_these_experiments(experiments: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """Return the rows over seeds that were measured of the experiments as they are now.

    With other data or params these have other batches an epoch, or other epochs.
    """
    now = experiments.set_index("experiment")

    def belongs(rows: pd.DataFrame) -> bool:
        if rows.name not in now.index:
            return False
        one = now.loc[rows.name]
        return (
            (rows["batch_size"] == one["batch_size"]).all()
            and (rows["steps"] * one["epochs"] == one["steps"] * rows["epochs"]).all()
            and rows["epochs"].min() <= one["epochs"] <= rows["epochs"].max()
        )

    return seeds.groupby("experiment").filter(belongs)


def headline(experiments: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """Epochs and batch size of each experiment, and mean ± sample standard deviation over seeds.

    The title has the number of seeds. An experiment that was not run with several has a dash.
    """
    groups = seeds.groupby("experiment")["accuracy"]
    counts = " or ".join(map(str, sorted(set(groups.size()))))
    several = {name: values for name, values in groups if len(values) > 1}
    spread = {name: f"{one.mean():.4f} ± {one.std():.4f}" for name, one in several.items()}
    columns = {
        "experiment": experiments["experiment"],
        "epochs": experiments["epochs"].map(str),
        "batch size": experiments["batch_size"].map(str),
        f"test accuracy, mean ± standard deviation over {counts} seeds": [
            spread.get(name, "–") for name in experiments["experiment"]
        ],
    }
    if "arithmetic" in seeds:  # not portable: told beside the numbers
        computed = seeds.groupby("experiment")["arithmetic"].first()
        columns["arithmetic"] = experiments["experiment"].map(computed).fillna("")
    return pd.DataFrame(columns)


def read_json(path: Path) -> dict:
    """The content of a JSON file; nothing where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def not_measured(path: str) -> str:
    """What stands in the place of a table whose numbers are not there."""
    return f"Not measured yet: there are no numbers for this table in {path}."


if __name__ == "__main__":
    with exit_on_user_error("readme"):
        main()
