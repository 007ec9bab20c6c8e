"""Tables and pictures that compare experiments: metrics/comparisons and plots/comparisons."""

from pathlib import Path

import pandas as pd

from fashion.core.files import read_csv, write_csv
from tools.experiments.config import PLAIN
from tools.experiments.results import Result

LEGEND = """\
gap: validation loss less training loss after the last epoch.
±: half of the 95 % interval over the test images (Wilson)."""


def save_comparison(results: list[Result], group: str = PLAIN) -> None:
    """Write the table, show it, and draw the picture again if a result or the table is new."""
    path, picture = Path(f"metrics/comparisons/{group}.csv"), Path(f"plots/comparisons/{group}.png")
    before = path.read_bytes() if path.exists() else None
    write_csv(path, pd.DataFrame([result.summary() for result in results]))
    is_new = any(result.just_run for result in results) or path.read_bytes() != before
    if is_new or not picture.exists():
        from fashion.comparisons import compare_losses  # slow, so only if it is needed
        from fashion.plots.figures import save_figure

        title = f"{results[0].data['name']}: loss on training and validation images"
        histories = {result.name: result.history for result in results}
        save_figure(compare_losses(histories, title), picture)
    table = markdown(experiments_table(read_csv(path)))
    print(f"\n{table}\n\n{LEGEND}\nTable: {path}, picture: {picture}")


def save_seeds(results: dict[str, list[Result]], group: str) -> None:
    """Write and show the table of experiments that have run with several seeds, by name."""
    path = Path(f"metrics/comparisons/{group}-seeds.csv")
    rows = [
        {"experiment": name, "seed": run.params["seed"]} | dict(list(run.summary().items())[1:])
        for name, runs in results.items()
        for run in runs
    ]
    write_csv(path, pd.DataFrame(rows))
    table = markdown(seeds_table(read_csv(path)))
    print(f"\nMean and standard deviation over seeds:\n\n{table}\n\nTable: {path}")


def markdown(table: pd.DataFrame) -> str:
    """Return a table of texts as Markdown."""
    return table.to_markdown(index=False, disable_numparse=True, stralign="right")


def experiments_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the texts that show a table of experiments, in 80 columns.

    ± is half the width of the 95 % interval over the test images.
    """
    half_widths = (table["accuracy_high"] - table["accuracy_low"]) / 2
    columns = {
        "experiment": "{experiment}",
        "epochs": "{epochs}",
        "batch": "{batch_size}",
        "best val_loss": "{best_val_loss:.4f} (ep. {best_epoch})",
        "gap": "{last_loss_gap:+.4f}",
        "test accuracy": "{accuracy:.4f} ± {half_width:.4f}",
    }
    return format_rows(table.assign(half_width=half_widths), columns)


def seeds_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean and sample standard deviation over the seeds of each experiment, as texts."""
    titles = {
        "best_val_loss": "best validation loss",
        "last_val_loss": "last validation loss",
        "last_loss_gap": "gap",
        "val_accuracy": "validation accuracy",
        "accuracy": "test accuracy",
        "macro_f1": "macro F1",
    }
    groups = table.groupby("experiment", sort=False)
    texts = groups[list(titles)].agg(lambda values: f"{values.mean():.4f} ± {values.std():.4f}")
    texts.insert(0, "seeds", groups.size().map(str))
    if "environment" in table:
        texts["environment"] = groups["environment"].first().fillna("")
    return texts.rename(columns=titles).reset_index()


def format_rows(table: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Return a text for each row and column; `columns` has their formats, by title.

    If other than the pinned packages, or native arithmetic, computed a row, a column says so.
    """
    if "environment" in table:
        columns = columns | {"environment": "{environment}"}
        table = table.fillna({"environment": ""})
    rows = table.to_dict("records")
    return pd.DataFrame(
        [{title: form.format(**row) for title, form in columns.items()} for row in rows]
    )
