"""The charts of promises, drawn by BokehJS: what was promised against what came."""

from functools import lru_cache
from typing import Any

from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter

from web.figure import build_figure

_LOOKS = (("kept", "train", "within the range"), ("missed", "val", "outside of it"))


@lru_cache(maxsize=1)
def build_accuracy_chart() -> Any:
    """Returns the empty chart of promised ranges and delivered accuracies, as JSON."""
    plot = build_figure("Promised and delivered accuracy", "promise, by time")
    names = ("number", "job", "low", "high", "delivered")
    dots = []
    for series, tag, words in _LOOKS:
        source = ColumnDataSource(
            {name: [] for name in names}, name=f"accuracy-{series}"
        )
        plot.segment(
            "number", "low", "number", "high", source=source, line_width=1, alpha=0.5
        ).glyph.tags = [tag]
        drawn = plot.scatter(
            "number", "delivered", source=source, size=6, legend_label=words
        )
        drawn.glyph.tags = [tag]
        dots.append(drawn)
    plot.add_tools(
        HoverTool(
            renderers=dots,
            tooltips=[
                ("job", "@job"),
                ("promised", "@low{0.0 %} to @high{0.0 %}"),
                ("delivered", "@delivered{0.0 %}"),
            ],
        )
    )
    plot.yaxis.formatter = NumeralTickFormatter(format="0 %")
    _put_legend_above(plot)
    return json_item(plot, ID("chart-promised-accuracy"))


@lru_cache(maxsize=1)
def build_minutes_chart() -> Any:
    """Returns the empty chart of promised and taken minutes, by magnitude, as JSON."""
    plot = build_figure(
        "Minutes taken by minutes promised", "promised", "log", "log"
    )  # fmt: skip
    plot.yaxis.axis_label = "taken"
    line = ColumnDataSource({"promised": [], "taken": []}, name="as-promised")
    plot.line("promised", "taken", source=line, line_dash="dotted").glyph.tags = [
        "quiet"
    ]
    names = ("job", "low", "promised", "high", "taken")
    dots = []
    for series, tag, words in _LOOKS:
        source = ColumnDataSource(
            {name: [] for name in names}, name=f"minutes-{series}"
        )
        plot.segment(
            "low", "taken", "high", "taken", source=source, line_width=1, alpha=0.5
        ).glyph.tags = [tag]
        drawn = plot.scatter(
            "promised", "taken", source=source, size=6, legend_label=words
        )
        drawn.glyph.tags = [tag]
        dots.append(drawn)
    plot.add_tools(
        HoverTool(
            renderers=dots,
            tooltips=[
                ("job", "@job"),
                ("promised", "@low{0.0} to @high{0.0} min"),
                ("took", "@taken{0.0} min"),
            ],
        )
    )
    plot.xaxis.formatter = plot.yaxis.formatter = NumeralTickFormatter(format="0.[00]")
    _put_legend_above(plot)
    return json_item(plot, ID("chart-promised-minutes"))


def _put_legend_above(plot: Any) -> None:
    """A thousand dots leave no corner free."""
    legend = plot.legend[0]
    legend.orientation = "horizontal"
    plot.add_layout(legend, "above")
