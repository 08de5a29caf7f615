"""plots: every figure has a text alternative and can be shown; wrong input is refused in words."""

import io

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from imagegen_tf import plots

RGB = np.random.default_rng(0).random((20, 30, 3), dtype=np.float32)
RGBA = np.random.default_rng(1).random((20, 30, 4), dtype=np.float32)
GREY = RGB[:, :, :1]


def shade(latents):
    """A decoder: the first latent is the brightness, the third is that of the left half."""
    pictures = np.zeros((len(latents), 6, 8, 1), np.float32)
    pictures += latents[:, 0].reshape(-1, 1, 1, 1) / 10 + 0.5
    pictures[:, :, :4] += latents[:, 2].reshape(-1, 1, 1, 1) / 10
    return pictures


FIGURES = {
    "grid": lambda alt: plots.grid({"a": RGB, "b": GREY, "c": RGBA, "d": RGB[:, :, 0]}, alt=alt),
    "rows": lambda alt: plots.grid([RGB] * 7, alt=alt, columns=3),
    "compare": lambda alt: plots.compare({"a": RGB, "b": GREY}, zoom=(2, 3, 5, 6), alt=alt),
    "curves": lambda alt: plots.curves(
        {"a": ([1, 2], [3, 4]), "b": ([1, 2], [4, 3], "o--")}, xlabel="x", ylabel="y", alt=alt
    ),
    "histogram": lambda alt: plots.histogram({"a": RGB, "b": GREY}, alt=alt),
    "figure": lambda alt: plots.figure(2, 2, alt=alt)[0],
    "traverse": lambda alt: plots.traverse(shade, [0, 0, 1], axes=[0, 2], alt=alt),
}


def test_a_notebook_gets_a_picture_and_its_text_alternative():
    for name in FIGURES:
        data, metadata = FIGURES[name]("what it shows")._repr_mimebundle_()
        (kind,) = set(data) - {"text/plain"}
        assert data["text/plain"] == "what it shows"
        assert metadata[kind]["alt"] == "what it shows"
        picture = Image.open(io.BytesIO(data[kind]))
        assert picture.width > 300 and np.ptp(np.asarray(picture.convert("L"))) > 100


def test_a_figure_without_a_text_alternative_is_refused():
    for name in FIGURES:
        with pytest.raises(ValueError, match="alt"):
            FIGURES[name](" ")


def test_photographs_are_stored_small():
    smooth = np.linspace(0, 1, 400 * 600 * 3, dtype=np.float32).reshape(400, 600, 3)
    drawing = plots.grid([smooth], alt="a ramp")
    data, _ = drawing._repr_mimebundle_()
    sizes = [len(drawing.encode(kind)) for kind in ("png", "jpeg")]
    assert len(next(value for kind, value in data.items() if kind != "text/plain")) == min(sizes)


def test_alpha_is_shown_over_a_checkerboard():
    shown = plots._shown(np.zeros((64, 64, 4), np.float32))
    np.testing.assert_allclose(np.unique(shown), [0.75, 0.92])
    opaque = RGBA.copy()
    opaque[:, :, 3] = 1
    np.testing.assert_allclose(plots._shown(opaque), RGBA[:, :, :3])


def test_bytes_are_shown_as_the_image_that_they_are():
    np.testing.assert_allclose(plots._shown((RGB * 255).astype(np.uint8)), RGB, atol=1 / 255)


def test_histogram_draws_every_array():
    drawing = plots.histogram({str(i): RGB for i in range(11)}, alt="eleven lines")
    assert len(drawing.axes[0].patches) == 11


def test_histogram_has_area_one():
    axes = plots.histogram({"a": RGB}, bins=10, alt="flat").axes[0]
    values, edges, _ = axes.patches[0].get_data()
    assert np.sum(values * np.diff(edges)) == pytest.approx(1)


def test_animate_makes_an_endless_gif():
    picture = plots.animate([RGB, 1 - RGB, RGB * 0], alt="it blinks", frames_per_second=4)
    gif = Image.open(io.BytesIO(picture.data))
    assert gif.n_frames == 3 and gif.info["loop"] == 0 and gif.info["duration"] == 250
    assert picture.alt == "it blinks"
    assert plots.animate([GREY], alt="one grey frame").data[:3] == b"GIF"


def test_input_that_makes_no_sense_is_refused_in_words():
    for call, words in [
        (lambda: plots.grid([], alt="x"), "images"),
        (lambda: plots.grid([RGB], ["a", "b"], alt="x"), "title"),
        (lambda: plots.compare({"a": RGB, "b": RGB[1:]}, zoom=(0, 0, 2, 2), alt="x"), "one size"),
        (lambda: plots.compare({"a": RGB}, zoom=(15, 0, 9, 2), alt="x"), "zoom"),
        (lambda: plots.animate([], alt="x"), "frames"),
        (lambda: plots.animate([RGB, RGB[1:]], alt="x"), "frames"),
        (lambda: plots.animate([RGB], alt=""), "alt"),
        (lambda: plots.animate([RGB], alt="x", frames_per_second=0), "frames_per_second"),
        (lambda: plots.grid([RGB], alt="x", columns=0), "columns"),
        (lambda: plots.traverse(shade, [0, 0, 0], axes=[3], alt="x"), "axes"),
        (lambda: plots.traverse(shade, [0, 0, 0], axes=[], alt="x"), "axes"),
        (lambda: plots.traverse(shade, [[0, 0, 0]], axes=[0], alt="x"), "axes"),
        (lambda: plots.traverse(shade, [0, 0, 0], axes=[0], span=0, alt="x"), "span"),
        (lambda: plots.traverse(shade, [0, 0, 0], axes=[0], columns=1, alt="x"), "columns"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


def test_contact_sheet_lays_images_out_in_rows():
    batch = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8)
    sheet = plots.contact_sheet(batch, columns=2, gap=1)
    assert sheet.shape == (8, 7, 1)
    assert (sheet[:2, :3] == 0).all() and (sheet[:2, 4:] == 1).all() and (sheet[6:, :3] == 4).all()
    assert (sheet[2] == 255).all() and (sheet[6:, 4:] == 255).all()
    floats = plots.contact_sheet(np.zeros((1, 2, 2, 3)), columns=8)
    assert floats.shape == (2, 2, 3)
    for wrong, columns in ((batch[0], 2), (batch[:0], 2), (batch, 0)):
        with pytest.raises(ValueError, match="expected"):
            plots.contact_sheet(wrong, columns)


def test_traverse_draws_a_row_for_each_axis():
    seen = []
    drawing = plots.traverse(
        lambda latents: seen.append(latents) or shade(latents),
        [0.5, 2, 0],
        axes=[2, 0],
        span=2,
        columns=5,
        alt="x",
    )
    (latents,) = seen
    np.testing.assert_allclose(latents[:5], [[0.5, 2, v] for v in (-2, -1, 0, 1, 2)])
    np.testing.assert_allclose(latents[5:], [[v, 2, 0] for v in (-2, -1, 0, 1, 2)])
    (axes,) = drawing.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["latent 2", "latent 0"]
    assert [tick.get_text() for tick in axes.get_xticklabels()][0] == "-2.0"


@pytest.mark.parametrize(
    ("server", "interactive", "expected"),
    [(None, None, 0), ("a.ipynb", None, 1), ("a.ipynb", False, 0), (None, True, 1)],
)
def test_traverse_has_sliders_where_a_person_can_move_them(
    monkeypatch, server, interactive, expected
):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if server:
        monkeypatch.setenv("JPY_SESSION_NAME", server)
    plots.traverse(shade, [0, 0, 0], axes=[0, 2], alt="x", interactive=interactive)
    assert len(shown) == expected


@pytest.mark.parametrize("text", ["Ba$$in", "costs $5 to $10", "a_$^{", r"C:\\$x"])
def test_texts_are_shown_as_written_unless_they_hold_a_formula(text):
    picture = np.zeros((8, 8, 1))
    for figure in (
        plots.grid({text: picture}, alt="A square."),
        plots.curves(
            {text: ([0, 1], [0, 1]), "b": ([0, 1], [1, 0])}, xlabel=text, ylabel="", alt="A"
        ),
    ):
        figure.encode("png")
        shown = [found for found in figure.findobj(Text) if found.get_text() == text]
        assert shown and not any(found.get_parse_math() for found in shown)
    formula = plots.grid({r"$\sqrt{v}$": picture}, alt="A square.")
    formula.encode("png")
    assert formula.axes[0].title.get_parse_math()


@pytest.mark.parametrize(
    ("speed", "count", "duration"), [(8, 240, 120), (60, 120, 30), (240, 48, 20)]
)
def test_fast_animations_keep_their_pace_by_fewer_frames(speed, count, duration):
    frames = [np.full((2, 2, 1), number / 240) for number in range(240)]
    shown = plots.animate(frames, alt="It brightens.", frames_per_second=speed)
    picture = Image.open(io.BytesIO(shown.data))
    assert (picture.n_frames, picture.info["duration"]) == (count, duration)
