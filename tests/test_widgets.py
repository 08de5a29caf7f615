"""widgets: what a person moves changes what is shown."""

import numpy as np

from imagegen_tf import plots, widgets


def shade(numbers):
    """A figure that depends on the numbers."""
    return plots.grid([np.full((4, 4, 1), 0.5 + sum(numbers) / 10)], alt="a shade")


def test_moving_a_slider_changes_the_picture():
    box = widgets.sliders(
        {"first": 0.0, "second": 1.0}, shade, limits=(-2.5, 2.5), alt='a "half" & half'
    )
    column, picture = box.children
    assert [slider.description for slider in column.children] == ["first", "second"]
    before = picture.value
    assert 'alt="a &quot;half&quot; &amp; half"' in before
    column.children[1].value = 2.0
    assert picture.value != before
    column.children[1].value = 1.0
    assert picture.value == before
