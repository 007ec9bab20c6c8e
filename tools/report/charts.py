"""The page's charts: Vega-Lite specifications (https://vega.github.io/vega-lite/docs/)."""

from typing import Any

import pandas as pd

from tools.experiments.results import Result

COLOURS = ["#3182bd", "#d95f02", "#1b9e77", "#cc79a7", "#b8860b", "#8c7ae6", "#e15759", "#76b7b2"]
HEIGHT = 320  # pixels of a chart
SHOWN_RUNS = {  # page.html sets `hidden` to the names of the runs that are switched off
    "params": [{"name": "hidden", "value": []}],
    "transform": [{"filter": "indexof(hidden, datum.run) < 0"}],
}


def curves(results: list[Result], quantity: str, label: str) -> dict[str, Any]:
    """Return a chart of "loss" or "accuracy" by epoch: a colour per run, validation dashed."""
    histories = pd.concat([result.history.assign(run=result.name) for result in results])
    columns = {quantity: "training", f"val_{quantity}": "validation"}
    rows = histories.rename(columns=columns).melt(
        ["run", "epoch"], columns.values(), var_name="images", value_name=label
    )
    encoding = {
        "x": {"field": "epoch", "type": "quantitative", "axis": {"tickMinStep": 1}},
        "y": _numbers(label),
        "color": _by_run(results, range=COLOURS),
        "strokeDash": {"field": "images", "legend": None, "scale": {"range": [[1, 0], [5, 4]]}},
    }
    values = {"tooltip": _tooltip("run", "images", "epoch", **{label: ".4f"})}
    layer = [
        {"mark": {"type": "line", "point": {"size": 25}, "strokeWidth": 2}},
        {"mark": {"type": "point", "size": 400, "opacity": 0}, "encoding": values},  # easy to hit
    ]
    title = f"{label} on training and validation images by epoch"
    return _chart(title, rows, encoding=encoding, layer=layer, **SHOWN_RUNS)


def confusion(result: Result) -> dict[str, Any]:
    """Return a chart of how many test images of each class are predicted as each class.

    The shade is the share in the images of the actual class, a row of the chart.
    """
    rows = result.predictions.value_counts(["actual", "predicted"]).reset_index(name="images")
    rows["share"] = rows["images"] / rows.groupby("actual")["images"].transform("sum")
    encoding = {
        "x": _classes("predicted", result, labelAngle=-40),
        "y": _classes("actual", result),
        "tooltip": _tooltip("actual", "predicted", "images", share=".1%"),
    }
    blues = {"domain": [0, 1], "scheme": "blues"}
    shade = {"field": "share", "type": "quantitative", "legend": None, "scale": blues}
    ink = {"condition": {"test": "datum.share > 0.5", "value": "white"}, "value": "#1b1f24"}
    layer = [
        {"mark": "rect", "encoding": {"color": shade}},
        {"mark": "text", "encoding": {"text": {"field": "images"}, "color": ink}},
    ]
    title = f"Test images of {result.name} by actual and predicted class"
    height = max(HEIGHT, 18 * len(result.class_names))
    return _chart(title, rows, height=height, encoding=encoding, layer=layer)


def f1_scores(results: list[Result]) -> dict[str, Any]:
    """Return a chart of the F1 of every class, a mark per run."""
    rows = pd.concat([result.per_class.assign(run=result.name) for result in results])
    encoding = {
        "x": _numbers("f1"),
        "y": _classes("class", results[0], grid=True),
        "color": _by_run(results, range=COLOURS),
        "shape": _by_run(results),
        "tooltip": _tooltip("run", "class", f1=".4f"),
    }
    mark = {"type": "point", "filled": True, "size": 110, "opacity": 0.85}
    title = "F1 of every class on the test images"
    return _chart(title, rows, height={"step": 30}, encoding=encoding, mark=mark, **SHOWN_RUNS)


def _chart(title: str, rows: pd.DataFrame, **properties: Any) -> dict[str, Any]:
    data = {"values": rows.to_dict("records")}
    return {"description": title, "width": "container", "height": HEIGHT, "data": data} | properties


def _numbers(field: str) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "scale": {"zero": False}}


def _classes(field: str, result: Result, **axis: Any) -> dict[str, Any]:
    return {"field": field, "type": "nominal", "sort": result.class_names, "axis": axis}


def _by_run(results: list[Result], **scale: Any) -> dict[str, Any]:
    domain = [result.name for result in results]
    return {"field": "run", "legend": None, "scale": {"domain": domain} | scale}


def _tooltip(*fields: str, **formats: str) -> list[dict[str, str]]:
    formatted = [{"field": field, "format": text} for field, text in formats.items()]
    return [{"field": field} for field in fields] + formatted
