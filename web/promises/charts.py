"""The charts of promises, drawn by BokehJS: what was promised against what came."""

from functools import lru_cache
from typing import Any

from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter

from web.figure import build_figure

# Told apart by shape, too: not everybody sees the colours.
_LOOKS = (
    ("kept", "train", "circle", "within the range"),
    ("missed", "val", "inverted_triangle", "outside of it"),
)
_SIZE_PX = 7


@lru_cache(maxsize=1)
def build_accuracy_chart() -> Any:
    """Returns the empty chart of promised ranges and delivered accuracies, as JSON."""
    plot = build_figure("Promised and delivered accuracy", "promise, by time")
    dots = _draw_promises(
        plot,
        "accuracy",
        span=("number", "low", "number", "high"),
        dot=("number", "delivered"),
    )
    _tell(
        plot,
        dots,
        ("promised", "@low{0.0 %} to @high{0.0 %}"),
        ("delivered", "@delivered{0.0 %}"),
    )
    plot.yaxis.formatter = NumeralTickFormatter(format="0 %")
    _put_legend_above(plot)
    return json_item(plot, ID("chart-promised-accuracy"))


@lru_cache(maxsize=1)
def build_minutes_chart() -> Any:
    """Returns the empty chart of promised and taken minutes, by magnitude, as JSON."""
    plot = build_figure("Minutes taken by minutes promised", "promised", "log", "log")
    plot.yaxis.axis_label = "taken"
    line = ColumnDataSource({"promised": [], "taken": []}, name="as-promised")
    plot.line("promised", "taken", source=line, line_dash="dotted").glyph.tags = [
        "quiet"
    ]
    dots = _draw_promises(
        plot,
        "minutes",
        span=("low", "taken", "high", "taken"),
        dot=("promised", "taken"),
    )
    _tell(
        plot,
        dots,
        ("promised", "@low{0.0} to @high{0.0} min"),
        ("took", "@taken{0.0} min"),
    )
    plot.xaxis.formatter = plot.yaxis.formatter = NumeralTickFormatter(format="0.[00]")
    _put_legend_above(plot)
    return json_item(plot, ID("chart-promised-minutes"))


def _draw_promises(
    plot: Any,
    name: str,
    *,
    span: tuple[str, str, str, str],
    dot: tuple[str, str],
) -> list[Any]:
    """Draws each promise as a line and what came as a mark; returns the marks.

    Args:
        plot: To draw on.
        name: Of the sources, before `-kept` and `-missed`.
        span: Columns of the line: x and y of its ends.
        dot: Columns of the mark.
    """
    dots = []
    for series, tag, marker, words in _LOOKS:
        columns = dict.fromkeys(["job", *span, *dot])
        source = ColumnDataSource(
            {column: [] for column in columns}, name=f"{name}-{series}"
        )
        line = plot.segment(*span, source=source, line_width=1, alpha=0.5)
        drawn = plot.scatter(
            *dot, source=source, size=_SIZE_PX, marker=marker, legend_label=words
        )
        line.glyph.tags = drawn.glyph.tags = [tag]
        dots.append(drawn)
    return dots


def _tell(plot: Any, dots: list[Any], *more: tuple[str, str]) -> None:
    plot.add_tools(HoverTool(renderers=dots, tooltips=[("job", "@job"), *more]))


def _put_legend_above(plot: Any) -> None:
    """A thousand dots leave no corner free."""
    legend = plot.legend[0]
    legend.orientation = "horizontal"
    plot.add_layout(legend, "above")
