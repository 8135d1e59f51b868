"""The charts of jobs, drawn by BokehJS; scripts fill them with points."""

from functools import lru_cache
from typing import Any

from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter, Slope, Span

from web.figure import build_figure

COLOURS = 6  # of curves laid over each other; `charts.js` names them


@lru_cache(maxsize=1)
def build_charts() -> list[Any]:
    """Returns both empty charts as JSON for BokehJS; the script fills them."""
    return [
        json_item(_chart("loss", "Loss"), ID("chart-loss")),
        json_item(_chart("accuracy", "Accuracy", format_="0 %"), ID("chart-accuracy")),
    ]


@lru_cache(maxsize=1)
def build_promise_chart() -> Any:
    """Returns the empty chart of promised and actual waits as JSON for BokehJS."""
    plot = build_figure("Minutes until the start", "promised")
    plot.yaxis.axis_label = "actual"
    source = ColumnDataSource({"job": [], "promised": [], "actual": []}, name="waits")
    plot.scatter("promised", "actual", source=source, size=7).glyph.tags = ["train"]
    plot.add_layout(Slope(gradient=1, y_intercept=0, line_dash="dotted"))
    plot.add_tools(
        HoverTool(
            tooltips=[
                ("job", "@job"),
                ("promised", "@promised{0.0} min"),
                ("actual", "@actual{0.0} min"),
            ]
        )
    )
    return json_item(plot, ID("chart-promises"))


@lru_cache(maxsize=64)
def build_comparison_charts(
    axes: tuple[tuple[str, bool], ...], curves: int
) -> list[Any]:
    """Returns the empty charts of a submission as JSON for BokehJS.

    Args:
        axes: Each setting with a chart, and whether its axis goes by magnitude.
        curves: How many learning curves there are at most.
    """
    items = [json_item(_draw_curves(curves), ID("chart-curves"))]
    for place, (name, by_magnitude) in enumerate(axes):
        plot = _draw_setting(place, name, by_magnitude=by_magnitude)
        items.append(json_item(plot, ID(f"chart-setting-{place}")))
    return items


def _draw_curves(curves: int) -> Any:
    plot = build_figure("Validation accuracy", "epoch")
    for place in reversed(range(curves)):  # the best is drawn last, over the others
        source = ColumnDataSource(
            {"epoch": [], "accuracy": [], "job": []}, name=f"curve-{place}"
        )
        tags = [f"line-{place % COLOURS}"]
        plot.line(
            "epoch", "accuracy", source=source, line_width=3 if place == 0 else 2,
            line_dash="solid" if place < COLOURS else "dashed",
        ).glyph.tags = tags  # fmt: skip
        plot.scatter("epoch", "accuracy", source=source, size=4).glyph.tags = tags
    _show_accuracy(plot, [("job", "@job"), ("epoch", "@epoch")])
    return plot


def _draw_setting(place: int, name: str, *, by_magnitude: bool) -> Any:
    axis = "log" if by_magnitude else "linear"
    plot = build_figure("Best validation accuracy", name, x_axis_type=axis)
    # A thousand dots lie on each other: where there are many, they are darker.
    for series, tag, size, alpha in (
        ("setting", "train", 7, 0.5),
        ("best", "val", 11, 1),
    ):
        source = ColumnDataSource(
            {"value": [], "accuracy": [], "job": []}, name=f"{series}-{place}"
        )
        plot.scatter(
            "value", "accuracy", source=source, size=size, alpha=alpha
        ).glyph.tags = [tag]
    _show_accuracy(plot, [("job", "@job"), (name, "@value{0.[000000]}")])
    return plot


def _show_accuracy(plot: Any, told: list[tuple[str, str]]) -> None:
    plot.yaxis.formatter = NumeralTickFormatter(format="0.[0] %")
    accuracy = ("accuracy", "@accuracy{0.00 %}")
    plot.add_tools(HoverTool(tooltips=[*told, accuracy]))


def _chart(name: str, title: str, format_: str = "0.00") -> Any:
    source = ColumnDataSource(
        {"epoch": [], "train": [], "val": [], "phase": []}, name=name
    )
    plot = build_figure(title, "epoch")
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
    return plot
