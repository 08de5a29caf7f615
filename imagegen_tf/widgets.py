"""What a person can move in an open notebook; where nobody can, a still picture stands instead."""

import base64
import html
import os


def is_open():
    """Tell whether a Jupyter server runs this kernel, so that a person may be there to use it.

    Returns:
        bool; False where a program executes the notebook.
    """
    return "JPY_SESSION_NAME" in os.environ


def sliders(values, draw, *, limits, alt):
    """Make one slider for each number, and the picture that they set.

    Args:
        values: dict of name to the number at the start.
        draw: function of a list of these numbers that gives a figure of plots.
        limits: smallest and largest value of the sliders.
        alt: text alternative of the picture.
    Returns:
        An ipywidgets box.
    Taught in: notebooks/05_vae.ipynb
    """
    import ipywidgets

    low, high = limits
    settings = {"min": low, "max": high, "step": (high - low) / 50}
    column = [
        ipywidgets.FloatSlider(value, description=name, **settings)
        for name, value in values.items()
    ]
    picture = ipywidgets.HTML()

    def redraw(change=None):
        picture.value = _picture(draw([slider.value for slider in column]), alt)

    for slider in column:
        slider.observe(redraw, "value")
    redraw()
    return ipywidgets.HBox([ipywidgets.VBox(column), picture])


def _picture(figure, alt):
    """Write a figure as an element of a page."""
    source = base64.b64encode(figure.encode("png")).decode()
    return f'<img src="data:image/png;base64,{source}" alt="{html.escape(alt)}">'
