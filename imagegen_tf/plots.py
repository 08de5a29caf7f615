"""Figures: grids of images, a zoomed crop, curves, histograms, animations, walks through latents.

Every figure carries a text alternative, for those who cannot see it: what it shows, not how it
looks. A cell shows a figure by ending in it. Texts are shown as written, dollars too, unless they
hold a formula in TeX. Colours are Okabe and Ito's, which colour-blind eyes tell apart. Importing
this module sets matplotlib's style, so that drawings of one's own look like the others.
"""

import io
import itertools
import math
import re

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from imagegen_tf import images, widgets

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
RGB_COLOURS = ("#D55E00", "#009E73", "#0072B2")
_DOTS_PER_INCH = 96
_TEX = re.compile(r"\$[^$]*\\[a-zA-Z]+[^$]*\$")  # a formula has a command; "$5 to $10" has none
_SHORTEST_FRAME = 20  # milliseconds; browsers show shorter ones for 100
matplotlib.rcParams.update(
    {
        "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        "image.cmap": "viridis",
        "font.size": 9,
    }
)


class _Described(Figure):
    """A figure that a notebook shows with its text alternative."""

    def _repr_mimebundle_(self, include=None, exclude=None):
        encoded = {"image/png": self.encode("png")}
        if any(axes.images for axes in self.axes):
            encoded["image/jpeg"] = self.encode("jpeg")
        kind = min(encoded, key=lambda name: len(encoded[name]))
        data = {kind: encoded[kind], "text/plain": self.alt}
        return data, {kind: {"alt": self.alt}}

    def encode(self, kind):
        """Give the figure as the bytes of a "png" or "jpeg" file."""
        for text in self.findobj(Text):
            if "$" in text.get_text() and not _TEX.search(text.get_text()):
                text.set_parse_math(False)
        quality = {"pil_kwargs": {"quality": 82, "subsampling": 0}} if kind == "jpeg" else {}
        with io.BytesIO() as file:
            self.savefig(file, format=kind, dpi=_DOTS_PER_INCH, bbox_inches="tight", **quality)
            return file.getvalue()


def figure(rows=1, columns=1, *, alt, width=9.0, height=3.0, **options):
    """Make an empty figure with axes, in the course's style, for a drawing of one's own.

    Args:
        rows, columns: number of axes.
        alt: text alternative: what the figure shows, in a sentence.
        width, height: of the whole figure, in inches.
        options: further arguments of matplotlib's Figure.subplots.
    Returns:
        The figure, and its axes as matplotlib's Figure.subplots gives them.
    Raises:
        ValueError: the text alternative is empty.
    Taught in: notebooks/00_start_here.ipynb
    """
    if not alt or not alt.strip():
        raise ValueError("alt: expected a sentence that says what the figure shows")
    drawing = _Described(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawing)
    drawing.alt = alt
    return drawing, drawing.subplots(rows, columns, **options)


def _shown(image):
    """Turn an image, map or mask into what imshow takes; alpha is shown over a checkerboard."""
    image = np.asarray(image)
    if image.dtype == np.uint8:
        image = images.to_float(image)
    if image.ndim == 2:
        return image
    if image.shape[2] == 1:
        return image[:, :, 0]
    if image.shape[2] == 3:
        return np.clip(image, 0, 1)
    # Alpha is shown over a checkerboard of squares of at least four pixels.
    rows, columns = np.indices(image.shape[:2]) // max(4, min(image.shape[:2]) // 24)
    squares = np.where((rows + columns) % 2, 0.92, 0.75)[:, :, None]
    return np.clip(image[:, :, :3] * image[:, :, 3:] + squares * (1 - image[:, :, 3:]), 0, 1)


def draw(axes, image, title=None, *, colours=None, limits=(0, 1)):
    """Draw one image into axes, without ticks; pixels stay sharp when the image is enlarged.

    Args:
        axes: matplotlib axes.
        image: (height, width, 1, 3 or 4) or (height, width); alpha is shown over a checkerboard.
        title: text above it.
        colours: name of a colour map for images of one channel; grey unless said.
        limits: values shown as the darkest and the brightest colour; images of one channel only.
    Returns:
        matplotlib's AxesImage, for a colour bar.
    """
    shown = _shown(image)
    columns = axes.get_subplotspec().get_gridspec().ncols
    is_enlarged = axes.figure.get_figwidth() * _DOTS_PER_INCH / columns > shown.shape[1]
    drawn = axes.imshow(
        shown,
        interpolation="nearest" if is_enlarged else "antialiased",
        cmap=colours or "gray",
        vmin=limits[0],
        vmax=limits[1],
    )
    axes.set_title(title or "", fontsize=9)
    axes.set_axis_off()
    return drawn


def grid(pictures, titles=None, *, alt, columns=None, width=9.0, colours=None, limits=(0, 1)):
    """Show images side by side.

    Args:
        pictures: sequence of images, or a dict of title to image.
        titles: one text per image, or None.
        alt: text alternative: what the figure shows, in a sentence.
        columns: images per row; by default one row up to six images.
        width: of the whole figure, in inches.
        colours, limits: as in draw.
    Returns:
        A figure.
    Raises:
        ValueError: no image, or another number of titles than of images.
    Taught in: notebooks/00_start_here.ipynb
    """
    if isinstance(pictures, dict):
        titles, pictures = list(pictures), list(pictures.values())
    pictures = list(pictures)
    titles = [None] * len(pictures) if titles is None else list(titles)
    if columns is not None and columns < 1:
        raise ValueError(f"columns: expected at least 1, got {columns}")
    if not pictures or len(titles) != len(pictures):
        raise ValueError(
            f"expected images with one title each, got {len(pictures)} and {len(titles)}"
        )
    if columns is None:
        columns = len(pictures) if len(pictures) <= 6 else int(np.ceil(np.sqrt(len(pictures))))
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    tallest = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    lines = max([str(title or "").count("\n") + bool(title) for title in titles])
    height = rows * (width / columns * tallest + 0.2 * lines)
    drawing, axes = figure(rows, columns, alt=alt, width=width, height=height, squeeze=False)
    for place, picture, title in zip(axes.flat, pictures, titles, strict=False):
        draw(place, picture, title, colours=colours, limits=limits)
    for place in axes.flat[len(pictures) :]:
        place.set_axis_off()
    return drawing


def contact_sheet(batch, columns=8, gap=2):
    """Lay images out in rows as one image, much faster than `grid` does with axes.

    Args:
        batch: (number, height, width, channels), uint8 or values in [0, 1].
        columns: images per row.
        gap: white pixels between them.
    Returns:
        One image of the same type.
    Raises:
        ValueError: not a batch, or columns below 1.
    Taught in: notebooks/04_dcgan.ipynb
    """
    batch = np.asarray(batch)
    if batch.ndim != 4 or not len(batch) or columns < 1:
        raise ValueError(f"expected (number, height, width, channels), got {batch.shape}")
    number, height, width, channels = batch.shape
    columns = min(columns, number)
    rows = -(-number // columns)
    white = 255 if batch.dtype == np.uint8 else 1
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    sheet = np.full(shape, white, batch.dtype)
    for index, image in enumerate(batch):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def compare(pictures, *, zoom, alt, width=9.0):
    """Show versions of one image in a row, and the same small rectangle of each enlarged below.

    Args:
        pictures: dict of title to image, all of one height and width.
        zoom: rectangle (top, left, height, width) in pixels.
        alt: text alternative: what the figure shows, in a sentence.
        width: of the whole figure, in inches.
    Returns:
        A figure.
    Raises:
        ValueError: no image, sizes differ, or the rectangle leaves the image.
    Taught in: notebooks/02_image_editing.ipynb
    """
    sizes = {picture.shape[:2] for picture in pictures.values()}
    if len(sizes) != 1:
        raise ValueError(f"expected images of one size, got {sorted(sizes)}")
    tall, wide = sizes.pop()
    top, left, height, across = zoom
    if min(zoom) < 0 or height < 1 or across < 1 or top + height > tall or left + across > wide:
        raise ValueError(f"zoom: {zoom} does not lie in an image of {tall} x {wide}")
    count = len(pictures)
    ratios = [tall / wide, height / across]
    drawing, axes = figure(
        2,
        count,
        alt=alt,
        width=width,
        height=width / count * sum(ratios) + 0.3,
        squeeze=False,
        height_ratios=ratios,
    )
    for column, (title, picture) in enumerate(pictures.items()):
        draw(axes[0, column], picture, title)
        frame = Rectangle(
            (left - 0.5, top - 0.5), across, height, fill=False, edgecolor=COLOURS[1], linewidth=1.5
        )
        axes[0, column].add_patch(frame)
        draw(axes[1, column], picture[top : top + height, left : left + across])
    return drawing


def curves(lines, *, xlabel, ylabel, alt, width=6.5, height=3.2, **settings):
    """Draw lines over one pair of axes.

    Args:
        lines: dict of name to (x, y), or to (x, y, format) with a matplotlib format such as "o" or
            "--".
        xlabel, ylabel: names of the axes, with units.
        alt: text alternative: what the figure shows, in a sentence.
        width, height: in inches.
        settings: further settings of the axes, such as xscale="log" or ylim=(0, 1).
    Returns:
        A figure.
    Raises:
        ValueError: the text alternative is empty.
    Taught in: notebooks/01_noise_images.ipynb
    """
    drawing, axes = figure(alt=alt, width=width, height=height)
    for name, (x, y, *style) in lines.items():
        axes.plot(x, y, *style, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel, **settings)
    if len(lines) > 1:
        axes.legend()
    return drawing


def histogram(
    values,
    *,
    alt,
    bins=256,
    limits=(0, 1),
    xlabel="value",
    colours=COLOURS,
    width=6.5,
    height=2.6,
):
    """Draw histograms as densities: the area under each line is 1.

    Args:
        values: dict of name to array. For the channels of an RGB image, one name each.
        colours: one colour per array, repeated if too few; RGB_COLOURS for red, green and blue.
        alt: text alternative: what the figure shows, in a sentence.
        bins: number of bins between the limits.
        limits: smallest and largest value shown.
        xlabel: name of the axis, with its unit.
        width, height: in inches.
    Returns:
        A figure; its first axes can take further curves.
    Raises:
        ValueError: the text alternative is empty.
    Taught in: notebooks/00_start_here.ipynb
    """
    drawing, axes = figure(alt=alt, width=width, height=height)
    for (name, numbers), colour in zip(values.items(), itertools.cycle(colours), strict=False):
        density, edges = np.histogram(np.ravel(numbers), bins=bins, range=limits, density=True)
        axes.stairs(density, edges, label=name, color=colour, linewidth=1.2, fill=len(values) == 1)
    axes.set(xlabel=xlabel, ylabel="density", xlim=limits)
    if len(values) > 1:
        axes.legend()
    return drawing


def animate(frames, *, alt, frames_per_second=8.0):
    """Show images one after the other, as an endless GIF.

    Args:
        frames: sequence of images of one size.
        alt: text alternative: what moves and how.
        frames_per_second: speed; above 50 frames are left out to keep it.
    Returns:
        An IPython Image that plays in the notebook and on a page.
    Raises:
        ValueError: no frame, sizes differ, or an empty text alternative.
    Taught in: notebooks/02_image_editing.ipynb
    """
    from IPython.display import Image as Picture

    if not frames_per_second > 0:
        raise ValueError(f"frames_per_second: expected a number above 0, got {frames_per_second}")
    every = math.ceil(_SHORTEST_FRAME * frames_per_second / 1000)
    frames = [images.to_uint8(images.to_float(_shown(frame))) for frame in list(frames)[::every]]
    if not frames or len({frame.shape for frame in frames}) != 1:
        raise ValueError("frames: expected at least one image, all of one size")
    if not alt or not alt.strip():
        raise ValueError("alt: expected a sentence that says what moves")
    pictures = [
        Image.fromarray(frame[:, :, 0] if frame.shape[2] == 1 else frame) for frame in frames
    ]
    with io.BytesIO() as file:
        pictures[0].save(
            file,
            "GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 * every / frames_per_second),
            loop=0,
        )
        return Picture(data=file.getvalue(), format="gif", alt=alt)


def traverse(decode, centre, *, alt, axes=range(6), span=2.5, columns=9, interactive=None):
    """Walk along single axes of a latent space: one row of pictures for each axis.

    In an open notebook there are sliders above the figure too, and the picture that they set.

    Args:
        decode: function of latents (number, latent size) that gives a batch of images.
        centre: latent (latent size,) where all walks cross.
        alt: text alternative: what the figure shows, in a sentence.
        axes: numbers of the axes, at least one.
        span: every walk goes from -span to span; > 0.
        columns: pictures in a row, >= 2.
        interactive: whether to add sliders; by default where a Jupyter server runs this kernel.
    Returns:
        A figure.
    Raises:
        ValueError: an axis that the centre does not have, span or columns too small, no alt.
    Taught in: notebooks/05_vae.ipynb
    """
    centre, axes = np.array(centre, np.float32), list(axes)
    if centre.ndim != 1 or not axes or not set(axes) <= set(range(centre.size)):
        raise ValueError(f"axes: got {axes} for a centre of shape {centre.shape}")
    if not span > 0 or columns < 2:
        raise ValueError(f"expected span > 0 and columns >= 2, got {span} and {columns}")
    # One row for each axis: (axes, columns, latent size), all else as in the centre.
    values = np.linspace(-span, span, columns, dtype=np.float32)
    latents = np.tile(centre, (len(axes), columns, 1))
    latents[np.arange(len(axes)), :, axes] = values
    sheet = contact_sheet(decode(latents.reshape(-1, centre.size)), columns)
    drawing, place = figure(alt=alt, width=8.8, height=0.4 + 8 * len(sheet) / sheet.shape[1])
    draw(place, sheet).set_extent((0, columns, len(axes), 0))
    place.set_axis_on()
    place.set_frame_on(False)
    place.grid(visible=False)
    place.tick_params(length=0)
    place.set_xticks(np.arange(columns) + 0.5, [f"{value:+.1f}" for value in values])
    place.set_yticks(np.arange(len(axes)) + 0.5, [f"latent {axis}" for axis in axes])
    if widgets.is_open() if interactive is None else interactive:
        from IPython.display import display

        def at(numbers):
            centre[axes] = numbers
            return grid(decode(centre[None]), alt=alt, width=2.5)

        start = {f"latent {axis}": float(centre[axis]) for axis in axes}
        display(widgets.sliders(start, at, limits=(-span, span), alt=alt))
    return drawing
