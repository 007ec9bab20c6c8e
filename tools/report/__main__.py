"""Compare runs on one self-contained page, report.html: `make report`.

The page opens from disk without a network. The charts are Vega-Lite; Vega itself is written into
the page from the package that ships it.
"""

import argparse
import base64
import json
from itertools import islice
from pathlib import Path

import pandas as pd
import vl_convert
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from fashion.core.errors import UserError, exit_on_user_error
from fashion.core.files import atomic_write
from fashion.core.params import PARAMS
from tools.experiments.results import Result, format_table
from tools.experiments.up_to_date import PIPELINE
from tools.git import commits_with_experiments, git, head, list_experiments, resolve_revision

PAGE, TEMPLATE = Path("report.html"), Path(__file__).with_name("page.html")
COLOURS = [
    "#3182bd",
    "#d95f02",
    "#1b9e77",
    "#cc79a7",
    "#b8860b",
    "#8c7ae6",
    "#e15759",
    "#76b7b2",
    "#9c755f",
    "#59a14f",
]
SHOWN_TRIALS = 5
SHOWN_RUN = {"filter": "indexof(hidden, datum.run) < 0"}
HIDDEN = {"name": "hidden", "value": []}


def main() -> None:
    parser = argparse.ArgumentParser(prog="report", description=__doc__.split("\n")[0])
    parser.add_argument(
        "revisions",
        metavar="REVISION",
        nargs="*",
        help="experiments, branches, tags or commits; by default all experiments of this commit"
        " but a sweep's trials",
    )
    results = find_results(parser.parse_args().revisions)
    with atomic_write(PAGE) as tmp_path:
        tmp_path.write_text(page(results), encoding="utf-8")
    print(
        f"Written: {PAGE}, comparing {', '.join(result.name for result in results)}."
        " Open it in a browser."
    )


def find_results(names: list[str]) -> list[Result]:
    """Return the results of the named experiments or revisions.

    Without names, of all experiments that belong to this commit, or to the nearest one before whose
    pipeline is equal.
    """
    kept = list_experiments(head())
    if not without_trials(kept):
        kept |= experiments_of_equal_commit()
    if not names:
        kept = without_trials(kept)
    if not names and not kept:
        raise UserError(
            "this commit has no experiments yet."
            " `make experiments` runs them, or name revisions to compare"
        )
    revisions = {name: kept.get(name) or resolve_revision(name) for name in names or kept}
    return [Result(name, revision) for name, revision in revisions.items()]


def without_trials(kept: dict[str, str]) -> dict[str, str]:
    """Return the experiments that are no trials of a sweep."""
    return {name: revision for name, revision in kept.items() if not name.startswith("sweep-")}


def experiments_of_equal_commit() -> dict[str, str]:
    """Return the experiments of the nearest commit before this, where the pipeline was as it is.

    And say so: DVC keeps experiments with one commit, and this may only be a page of text further.
    A commit that has nothing but trials of a sweep does not count.
    """
    with_runs = (one for one in commits_with_experiments() if without_trials(list_experiments(one)))
    for commit in islice(with_runs, 1):
        if not git("diff", "--name-only", commit, "HEAD", "--", *PIPELINE, str(PARAMS)):
            print(
                f"The experiments are those of commit {commit[:7]}: nothing that they are made of"
                " has changed since. `make experiments` takes them over to this commit."
            )
            return list_experiments(commit)
    return {}


def page(results: list[Result]) -> str:
    runs = [
        {
            "name": result.name,
            "colour": COLOURS[i % len(COLOURS)],
            "predictions": picture(result, "plots/predictions.png"),
            "mistakes": picture(result, "plots/mistakes.png"),
        }
        for i, result in enumerate(results)
    ]
    scale = {"domain": [run["name"] for run in runs], "range": [run["colour"] for run in runs]}
    curves = [
        {
            "id": "loss",
            "title": "Loss by epoch",
            "quantity": "loss",
            "label": "cross-entropy (nats)",
        },
        {
            "id": "accuracy",
            "title": "Accuracy by epoch",
            "quantity": "accuracy",
            "label": "accuracy",
        },
    ]
    charts = {
        curve["id"]: curve_chart(results, curve["quantity"], curve["label"], scale)
        for curve in curves
    }
    charts |= {f"confusion-{i}": confusion_chart(result) for i, result in enumerate(results)}
    charts["f1"] = f1_chart(results, scale)
    template = Environment(loader=FileSystemLoader(TEMPLATE.parent), autoescape=True).get_template(
        TEMPLATE.name
    )
    runs_compared = f"{len(results)} run{'s' if len(results) > 1 else ''} compared"
    return template.render(
        title=f"{results[0].data['name']}: {runs_compared}",
        revision=git("describe", "--always", "--dirty").strip(),
        runs=runs,
        curves=curves,
        summary=html_table(format_table(pd.DataFrame([result.summary() for result in results]))),
        params=html_table(differing_params(results)),
        samples=picture(results[0], "plots/samples.png"),
        sweeps=sweeps(),
        environment=html_table(environments(results)),
        vega=Markup(vl_convert.javascript_bundle().replace("</script", "<\\/script")),
        charts=Markup(json.dumps(charts).replace("</", "<\\/")),
    )


def picture(result: Result, path: str) -> str:
    return "data:image/png;base64," + base64.b64encode(result.file_bytes(path)).decode()


def sweeps() -> list[dict]:
    """Name, picture and best trials of each sweep in the workspace."""
    return [
        {
            "name": path.stem.removeprefix("sweep-"),
            "picture": "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(),
            "best": html_table(pd.read_csv(f"metrics/{path.stem}.csv").head(SHOWN_TRIALS)),
        }
        for path in sorted(Path("plots").glob("sweep-*.png"))
    ]


def html_table(table: pd.DataFrame) -> Markup:
    return Markup(table.to_html(index=False, border=0))


def differing_params(results: list[Result]) -> pd.DataFrame:
    """A row per param that has not the same value in all runs, a column per run."""
    flat = pd.DataFrame(
        {
            result.name: pd.json_normalize(result.params).astype(object).iloc[0].map(str)
            for result in results
        }
    )
    rows = flat[flat.nunique(axis=1, dropna=False) > 1]
    return rows.rename_axis("param").reset_index()


def environments(results: list[Result]) -> pd.DataFrame:
    """A row per fact of the environment, a column per run."""
    columns = {
        result.name: pd.json_normalize(result.environment).iloc[0].map(str) for result in results
    }
    return pd.DataFrame(columns).fillna("").rename_axis("").reset_index()


def curve_chart(results: list[Result], quantity: str, label: str, scale: dict) -> dict:
    """Training and validation curves of all runs; hovering a point shows its values."""
    rows = [
        {"run": result.name, "images": images, "epoch": int(row["epoch"]), "value": row[column]}
        for result in results
        for images, column in (("training", quantity), ("validation", f"val_{quantity}"))
        for row in result.history.to_dict("records")
    ]
    return {
        "description": (
            f"{label} on training and validation images by epoch, a colour per run,"
            " validation dashed"
        ),
        "width": "container",
        "height": 320,
        "params": [HIDDEN],
        "data": {"values": rows},
        "transform": [SHOWN_RUN],
        "encoding": {
            "x": {"field": "epoch", "type": "quantitative", "axis": {"tickMinStep": 1}},
            "y": {"field": "value", "type": "quantitative", "title": label,
                  "scale": {"zero": False}},
            "color": {"field": "run", "scale": scale, "legend": None},
            "strokeDash": {
                "field": "images", "legend": None,
                "scale": {"domain": ["training", "validation"], "range": [[1, 0], [5, 4]]},
            },
        },
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2}},
            {"mark": {"type": "point", "filled": True, "size": 25, "opacity": 1}},
            {"mark": {"type": "point", "filled": True, "size": 400, "opacity": 0},  # easier to hit
             "encoding": {"tooltip": [{"field": "run"}, {"field": "images"}, {"field": "epoch"},
                                      {"field": "value", "title": label, "format": ".4f"}]}},
        ],
    }  # fmt: skip


def confusion_chart(result: Result) -> dict:
    """How often each class was predicted as each class."""
    counts = result.predictions.value_counts(["actual", "predicted"]).rename("images").reset_index()
    counts["share"] = counts["images"] / counts.groupby("actual")["images"].transform("sum")
    axis = {"sort": result.class_names, "type": "nominal"}
    return {
        "description": (
            f"Confusion matrix of {result.name}: test images by actual and predicted class"
        ),
        "width": "container",
        "height": 320,
        "data": {"values": counts.to_dict("records")},
        "encoding": {
            "x": {"field": "predicted", "axis": {"labelAngle": -40}, **axis},
            "y": {"field": "actual", **axis},
            "tooltip": [{"field": "actual"}, {"field": "predicted"}, {"field": "images"},
                        {"field": "share", "format": ".1%"}],
        },
        "layer": [
            {"mark": "rect", "encoding": {
                "color": {"field": "share", "type": "quantitative", "legend": None,
                          "scale": {"domain": [0, 1], "scheme": "blues"}}}},
            {"mark": {"type": "text", "fontSize": 10}, "encoding": {
                "text": {"field": "images"},
                "color": {"condition": {"test": "datum.share > 0.5", "value": "white"},
                          "value": "#1b1f24"}}},
        ],
    }  # fmt: skip


def f1_chart(results: list[Result], scale: dict) -> dict:
    """F1 of every class, a dot per run."""
    rows = [
        {"run": result.name, "class": row["class"], "f1": row["f1"]}
        for result in results
        for row in result.per_class.to_dict("records")
    ]
    return {
        "description": "F1 of every class on the test images, a dot per run",
        "width": "container",
        "height": 30 * len(results[0].per_class),
        "params": [HIDDEN],
        "data": {"values": rows},
        "transform": [SHOWN_RUN],
        "mark": {"type": "point", "filled": True, "size": 110, "opacity": 0.85},
        "encoding": {
            "x": {"field": "f1", "type": "quantitative", "title": "F1", "scale": {"zero": False}},
            "y": {"field": "class", "type": "nominal",
                  "sort": results[0].class_names, "title": None,
                  "axis": {"grid": True}},
            "color": {"field": "run", "scale": scale, "legend": None},
            "shape": {"field": "run", "legend": None, "scale": {"domain": scale["domain"]}},
            "tooltip": [{"field": "run"}, {"field": "class"}, {"field": "f1", "format": ".4f"}],
        },
    }  # fmt: skip


if __name__ == "__main__":
    with exit_on_user_error("report"):
        main()
