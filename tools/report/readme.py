"""Fill the tables in README.md and docs/, and write both cards: `make readme`.

The table between the lines `<!-- NAME -->` and `<!-- /NAME -->` shows the numbers in
metrics/comparisons/NAME.csv, metrics/NAME.csv or bench/results/NAME.csv, or in the table NAME of a
JSON file in bench/results/.
"""

import re
from pathlib import Path

import pandas as pd

from fashion.core.files import atomic_write, read_csv
from fashion.core.strict_yaml import read_yaml
from tools.arguments import expect_no_arguments
from tools.experiments.compare import experiments_table, seeds_table
from tools.process import command_line
from tools.report.card import as_texts, render_cards, text_table

TABLE = re.compile(r"^<!-- ([\w-]+) -->\n(?:(?!<!-- ).*\n)*<!-- /\1 -->$", re.MULTILINE)
COMPARISONS, BENCH = Path("metrics/comparisons"), Path("bench/results")


def main() -> None:
    expect_no_arguments("readme", __doc__)
    for path, content in (render_cards() | render_pages()).items():
        with atomic_write(path) as tmp_path:
            tmp_path.write_text(content, encoding="utf-8")


def render_pages() -> dict[Path, str]:
    """Return the text of README.md and of each page in docs/ with the current tables, by path."""
    pages = [Path("README.md"), *sorted(Path("docs").glob("*.md"))]
    return {page: TABLE.sub(_fill, page.read_text(encoding="utf-8")) for page in pages}


def _fill(found: re.Match) -> str:
    name = found[1]
    table = read_table(name)
    missing = f"Not measured yet: no file in metrics/ or bench/results/ has the table {name}."
    return f"<!-- {name} -->\n{missing if table.empty else text_table(table)}\n<!-- /{name} -->"


def read_table(name: str) -> pd.DataFrame:
    """Return the table of this name as texts, or an empty one if there are no numbers for it."""
    if name == "headline":
        return headline(read_table("experiments"), read_table("experiments-seeds"))
    if (path := COMPARISONS / f"{name}.csv").exists():
        rows, group = read_csv(path), path.with_stem(name.removesuffix("-seeds"))
        if path == group:
            return experiments_table(rows)
        rows = of_current_experiments(rows, read_csv(group))
        return rows if rows.empty else seeds_table(rows)
    for path in (Path("metrics", f"{name}.csv"), BENCH / f"{name}.csv"):
        if path.exists():
            return as_texts(read_csv(path).astype(object).fillna(""))
    for path in BENCH.glob("*.json"):
        tables = read_yaml(path)["tables"]  # YAML 1.2 includes JSON
        if name in tables:
            return pd.DataFrame(tables[name])
    return pd.DataFrame()


def of_current_experiments(seeds: pd.DataFrame, experiments: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of experiments whose row in the table of experiments is one of these.

    The other experiments have changed since they ran with several seeds.
    """
    return seeds[seeds["experiment"].isin(seeds.merge(experiments)["experiment"])]


def headline(experiments: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """Return the README's small table; dashes stand for what was not measured over seeds."""
    if seeds.empty:
        return seeds
    params = experiments[["experiment", "epochs", "batch"]]
    scores = seeds.filter(["experiment", "seeds", "test accuracy", "environment"])
    return params.merge(scores, how="left").fillna("–")


if __name__ == "__main__":
    with command_line("readme"):
        main()
