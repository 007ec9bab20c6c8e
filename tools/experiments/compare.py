"""Tables and pictures that compare experiments: metrics/experiments.csv and those beside it."""

from pathlib import Path

import pandas as pd

from fashion.core.files import write_csv
from tools.experiments.results import Result, markdown
from tools.git import is_unchanged

LEGEND = """\
gap: validation loss less training loss after the last epoch.
±: half of the 95 % interval over the test images (Wilson)."""


def save_comparison(results: list[Result], suffix: str = "") -> None:
    """Write the table and the picture, where they are not there already, and show the table.

    The picture is drawn where any result is new: the code that draws may be, too.
    """
    path, picture = Path(f"metrics/experiments{suffix}.csv"), Path(f"plots/experiments{suffix}.png")
    before = path.read_bytes() if path.exists() else None
    write_csv(path, pd.DataFrame([result.summary() for result in results]))
    if (
        any(result.is_new for result in results)
        or path.read_bytes() != before
        or not picture.exists()
        or not is_unchanged("HEAD", str(picture))
    ):
        from fashion.figures import compare_losses, save_figure  # slow, so only where it is needed

        title = f"{results[0].data['name']}: loss on training and validation images"
        save_figure(
            compare_losses({result.name: result.history for result in results}, title), picture
        )
    print(f"\n{markdown(pd.read_csv(path))}\n\n{LEGEND}\nTable: {path}, picture: {picture}")


def save_seeds(results: dict[str, Result], path: Path) -> None:
    rows = [
        {"experiment": name.split("-seed-")[0], "seed": result.params["seed"]}
        | dict(list(result.summary().items())[1:])
        for name, result in results.items()
    ]
    write_csv(path, pd.DataFrame(rows))
    print(
        f"\nMean and standard deviation over seeds:\n\n{markdown(pd.read_csv(path))}"
        f"\n\nTable: {path}"
    )
