"""Compare experiments in tables and plots: metrics/comparisons and plots/comparisons."""

from pathlib import Path

import pandas as pd

from fashion.core.files import read_csv, write_csv
from tools.experiments.config import EXPERIMENTS, PLAIN
from tools.experiments.results import Result

LEGEND = """\
gap: validation loss minus training loss after the last epoch.
±: half of the 95 % interval over the test images (Wilson)."""


def save_comparison(results: list[Result], group: str = PLAIN) -> None:
    """Write and print the table, and draw the plot if the table is new or changed."""
    if not results:
        return print(f"There are no experiments to compare: {EXPERIMENTS} defines none.")
    path, plot = Path(f"metrics/comparisons/{group}.csv"), Path(f"plots/comparisons/{group}.png")
    before = path.read_bytes() if path.exists() else None
    write_csv(path, pd.DataFrame([result.summary() for result in results]))
    if path.read_bytes() != before:
        plot.unlink(missing_ok=True)  # so that a kill leaves no plot of other results
    if not plot.exists():
        from fashion.comparisons import compare_losses  # slow, so only if it is needed
        from fashion.plots.figures import save_figure

        title = f"{results[0].data['name']}: loss on training and validation images"
        histories = {result.name: result.history for result in results}
        save_figure(compare_losses(histories, title), plot)
    table = experiments_table(read_csv(path)).to_string(index=False)
    print(f"\n{table}\n\n{LEGEND}\nTable: {path}, plot: {plot}")


def save_seeds(results: dict[str, list[Result]], group: str) -> None:
    """Write and print the table of experiments with several runs each, one per seed."""
    path, rows = Path(f"metrics/comparisons/{group}-seeds.csv"), []
    for name, runs in results.items():
        for run in runs:
            first_columns = {"experiment": name, "seed": run.params["seed"]}
            rows.append(first_columns | run.summary() | first_columns)
    write_csv(path, pd.DataFrame(rows))
    table = seeds_table(read_csv(path))
    print(f"\nMean ± standard deviation over {table['seeds'][0]} seeds:\n")
    table = table.drop(columns="seeds").replace(" ± ", "±", regex=True)  # for 80 columns
    print(f"{table.to_string(index=False)}\n\nTable: {path}")


def experiments_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of experiments as texts.

    ± is half the width of the 95 % interval over the test images. A column shows the environment if
    a row was not computed with portable arithmetic.
    """
    columns = {
        "experiment": "{experiment}",
        "epochs": "{epochs}",
        "batch": "{batch_size}",
        "best val_loss": "{best_val_loss:.4f} (ep. {best_epoch})",
        "gap": "{last_loss_gap:+.4f}",
        "test accuracy": "{accuracy:.4f} ± {half_width:.4f}",
    }
    if "environment" in table:
        columns["environment"] = "{environment}"
        table = table.fillna({"environment": ""})
    half_widths = (table["accuracy_high"] - table["accuracy_low"]) / 2
    rows = table.assign(half_width=half_widths).to_dict("records")
    return pd.DataFrame(
        [{title: form.format(**row) for title, form in columns.items()} for row in rows]
    )


def seeds_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean and sample standard deviation over the seeds of each experiment, as texts."""
    titles = {
        "best_val_loss": "best val_loss",
        "last_loss_gap": "gap",
        "val_accuracy": "val accuracy",
        "accuracy": "test accuracy",
    }
    groups = table.groupby("experiment", sort=False)
    texts = groups[list(titles)].agg(lambda values: f"{values.mean():.4f} ± {values.std():.4f}")
    texts.insert(0, "seeds", groups.size().map(str))
    if "environment" in table:
        texts["environment"] = groups["environment"].first().fillna("")
    return texts.rename(columns=titles).reset_index()
