"""widgets: what a person moves changes what is shown."""

import io

import numpy as np
import pytest
from PIL import Image

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


def test_what_is_painted_becomes_a_mask():
    box = widgets.painter(np.full((20, 30, 3), 0.5, np.float32), brush=6)
    page, text = box.children
    assert widgets.strokes_of(box) == []
    assert 'width="30" height="20"' in page.value and "data:image/png;base64," in page.value
    text.value = '[{"width": 6, "points": [[5, 10], [25, 10]]}, {"width": 4, "points": [[15, 3]]}]'
    # A press that began elsewhere must not write "undefined", nor a lost touch stay open.
    assert "this.all||[]" in page.value and 'onpointercancel="this.onpointerup()"' in page.value
    mask = widgets.mask_of(widgets.strokes_of(box), 20, 30)
    assert mask.shape == (20, 30, 1) and set(np.unique(mask)) == {0, 1}
    assert mask[10, 5:26].all() and mask[3, 15] == 1 and mask[18].sum() == 0
    assert 5 <= mask[:, 15, 0].sum() <= 12
    with pytest.raises(ValueError, match="expected points and a width >= 1"):
        widgets.mask_of([{"width": 3, "points": []}], 20, 30)


def test_a_new_prompt_is_answered():
    asked = []

    def answer(prompt):
        asked.append(prompt)
        return np.full((4, 8, 3), len(prompt) / 10, np.float32), "a <remark>" * bool(prompt)

    box = widgets.prompt(answer, "one", alt="A drawing of")
    field, picture = box.children
    assert asked == ["one"] and 'alt="A drawing of one"' in picture.value
    assert "a &lt;remark&gt;" in picture.value
    before = picture.value
    field.value = ""
    assert asked == ["one", ""] and picture.value != before


def test_a_quiz_asks_about_every_picture_once():
    box = widgets.quiz(
        np.linspace(0, 1, 3)[:, None, None, None] * np.ones((1, 4, 4, 1)), ("a", "b")
    )
    shown, buttons, place, _ = box.children
    assert widgets.answers_of(box) == [] and place.value == "1 of 3"
    seen = {shown.value}
    for choice in (1, 0, 1):
        buttons.children[choice].click()
        seen.add(shown.value)
    assert widgets.answers_of(box) == [1, 0, 1] and len(seen) == 4
    assert all(button.disabled for button in buttons.children) and "Done" in place.value
    buttons.children[0].click()
    assert widgets.answers_of(box) == [1, 0, 1]


def test_bytes_are_shown_as_they_are():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    with io.BytesIO(widgets._png(image)) as file:
        assert np.array_equal(np.asarray(Image.open(file)), image)


def test_a_quiz_needs_pictures_and_choices():
    with pytest.raises(ValueError, match="got 0 and 2"):
        widgets.quiz(np.zeros((0, 4, 4, 1)), ("a", "b"))
    with pytest.raises(ValueError, match="got 1 and 1"):
        widgets.quiz(np.zeros((1, 4, 4, 1)), ("a",))
