"""The empty figure that every chart begins with: it imports Bokeh, a second's work."""

from typing import Any, Literal

from bokeh.plotting import figure

CHART_HEIGHT_PX = 300
Axis = Literal["linear", "log"]


def build_figure(
    title: str, x_label: str, x_axis_type: Axis = "linear", y_axis_type: Axis = "linear"
) -> Any:
    """Returns a figure without data in the look of all charts.

    Args:
        title: Above it.
        x_label: What the horizontal axis counts.
        x_axis_type: Whether that axis goes by magnitude.
        y_axis_type: The same of the vertical one.
    """
    plot = figure(
        title=title,
        x_axis_type=x_axis_type,
        y_axis_type=y_axis_type,
        height=CHART_HEIGHT_PX,
        sizing_mode="stretch_width",
        tools="pan,wheel_zoom,box_zoom,reset,save",
        toolbar_location="above",
        x_axis_label=x_label,
        # The page shows through, in light and dark; charts.js brings the other colours.
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    return plot
