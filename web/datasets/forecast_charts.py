"""The chart of a forecast's learning curve, drawn by BokehJS."""

from functools import lru_cache
from typing import Any

from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter

from web.figure import build_figure

_SPANS: dict[str, Any] = {"images": [], "accuracy": [], "low": [], "high": []}
_LINE: dict[str, Any] = {"images": [], "accuracy": []}


@lru_cache(maxsize=1)
def build_curve_chart() -> Any:
    """Returns the empty chart as JSON for BokehJS; `list_columns` makes its columns."""
    plot = build_figure("Accuracy of the probe", "pictures to train on")
    band = ColumnDataSource(_SPANS, name="band")
    plot.varea(
        "images", "low", "high", source=band, fill_alpha=0.18, legend_label="outlook"
    ).glyph.tags = ["val"]
    for name, tag, dash, words in (
        ("fit", "train", "solid", "fitted"),
        ("outlook", "val", "dashed", "outlook"),
    ):
        source = ColumnDataSource(_LINE, name=name)
        plot.line(
            "images", "accuracy", source=source, line_width=2, line_dash=dash,
            legend_label=words,
        ).glyph.tags = [tag]  # fmt: skip
    told = [_draw_spans(plot, "points", "train"), _draw_spans(plot, "ahead", "val")]
    plot.add_tools(HoverTool(renderers=told, tooltips=_TOOLTIPS))
    plot.yaxis.formatter = NumeralTickFormatter(format="0.[0] %")
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.legend.location = "bottom_right"
    return json_item(plot, ID("chart-learning-curve"))


_TOOLTIPS = [
    ("pictures", "@images{0,0}"),
    ("accuracy", "@accuracy{0.0 %}"),
    ("95 %", "@low{0.0 %} to @high{0.0 %}"),
]


def _draw_spans(plot: Any, name: str, tag: str) -> Any:
    source = ColumnDataSource(_SPANS, name=name)
    plot.segment(
        "images", "low", "images", "high", source=source, line_width=2
    ).glyph.tags = [tag]
    dots = plot.scatter("images", "accuracy", source=source, size=8)
    dots.glyph.tags = [tag]
    return dots
