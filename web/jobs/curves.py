"""Learning curves: the rows of the table, and the same numbers drawn by Bokeh."""

from dataclasses import asdict, dataclass
from typing import Any

from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter, Span
from bokeh.plotting import figure

from web.display import number, percent, phase

FINE_TUNE = "fine_tune"
CHART_HEIGHT_PX = 300


@dataclass
class EpochPoint:
    """The measures at the end of one epoch."""

    step: int
    epoch: int | None
    phase: str | None
    loss: float | None = None
    val_loss: float | None = None
    accuracy: float | None = None
    val_accuracy: float | None = None
    learning_rate: float | None = None


def collect_epochs(points: list[Any]) -> list[EpochPoint]:
    """Gathers single measures (`name`, `step`, `value`, ...) into one row an epoch.

    Args:
        points: From `job_queries.metrics_curve`, without gaps or doubles.
    """
    rows: dict[tuple[int, str | None], EpochPoint] = {}
    for point in points:
        row = rows.setdefault(
            (point.step, point.phase), EpochPoint(point.step, point.epoch, point.phase)
        )
        if point.name in EpochPoint.__dataclass_fields__:
            setattr(row, point.name, point.value)
        if point.epoch is not None:
            row.epoch = point.epoch
    complete = [row for row in rows.values() if row.epoch is not None]
    return sorted(complete, key=lambda row: row.step)


def as_json(rows: list[EpochPoint]) -> dict[str, Any]:
    """Returns what the page's script shows: columns of the charts, rows of the table.

    Epochs are numbered through, so that the fine-tune phase follows the frozen one.
    """
    numbers = list(range(1, len(rows) + 1))
    fine_tune = [
        n for n, row in zip(numbers, rows, strict=True) if row.phase == FINE_TUNE
    ]
    phases = [phase(row.phase) for row in rows]
    return {
        "columns": {
            "loss": {
                "epoch": numbers,
                "train": [row.loss for row in rows],
                "val": [row.val_loss for row in rows],
                "phase": phases,
            },
            "accuracy": {
                "epoch": numbers,
                "train": [row.accuracy for row in rows],
                "val": [row.val_accuracy for row in rows],
                "phase": phases,
            },
        },
        "fine_tune_from": fine_tune[0] - 0.5
        if fine_tune and fine_tune[0] > 1
        else None,
        "rows": [_cells(row) for row in rows],
    }


def as_metrics(rows: list[EpochPoint]) -> list[dict[str, Any]]:
    """Returns the rows as the API gives them."""
    return [asdict(row) for row in rows]


def build_charts() -> list[dict[str, Any]]:
    """Returns both empty charts as JSON for BokehJS; the script fills them."""
    return [
        json_item(_chart("loss", "Loss"), "chart-loss"),
        json_item(_chart("accuracy", "Accuracy", format_="0 %"), "chart-accuracy"),
    ]


def _cells(row: EpochPoint) -> list[str]:
    return [
        phase(row.phase),
        "" if row.epoch is None else str(row.epoch),
        f"{row.step:,}",
        number(row.loss),
        number(row.val_loss),
        percent(row.accuracy),
        percent(row.val_accuracy),
        number(row.learning_rate, 3),
    ]


def _chart(name: str, title: str, format_: str = "0.00") -> Any:
    source = ColumnDataSource(
        {"epoch": [], "train": [], "val": [], "phase": []}, name=name
    )
    plot = figure(
        title=title,
        height=CHART_HEIGHT_PX,
        sizing_mode="stretch_width",
        tools="pan,wheel_zoom,box_zoom,reset,save",
        toolbar_location="above",
        x_axis_label="epoch",
    )
    for column, words in (("train", "training"), ("val", "validation")):
        dash = "solid" if column == "train" else "dashed"
        plot.line(
            "epoch", column, source=source, legend_label=words, line_width=2,
            line_dash=dash,
        ).glyph.tags = [column]  # fmt: skip
        plot.scatter(
            "epoch", column, source=source, legend_label=words, size=4
        ).glyph.tags = [column]
    plot.add_tools(
        HoverTool(
            mode="vline",
            tooltips=[
                ("epoch", "@epoch"),
                ("phase", "@phase"),
                ("training", "@train{0.0000}"),
                ("validation", "@val{0.0000}"),
            ],
        )
    )
    plot.add_layout(
        Span(location=0, dimension="height", line_dash="dotted", visible=False)
    )
    plot.yaxis.formatter = NumeralTickFormatter(format=format_)
    plot.legend.click_policy = "hide"
    plot.legend.location = "top_right" if name == "loss" else "bottom_right"
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    return plot
