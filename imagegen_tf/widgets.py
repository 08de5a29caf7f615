"""What a person can move in an open notebook; where nobody can, a still picture stands instead."""

import base64
import html
import io
import json
import os
import uuid

import numpy as np
from PIL import Image, ImageDraw


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
        picture.value = _picture(draw([slider.value for slider in column]).encode("png"), alt)

    for slider in column:
        slider.observe(redraw, "value")
    redraw()
    return ipywidgets.HBox([ipywidgets.VBox(column), picture])


def prompt(answer, start, *, alt):
    """Make a field for a sentence, and the picture that answers it.

    Args:
        answer: function of a text; gives an image, float32 (height, width, channels) in [0, 1],
            and a remark, which may be empty.
        start: the text at the start.
        alt: text alternative of the picture; the sentence is added to it.
    Returns:
        An ipywidgets box. Enter asks.
    Taught in: notebooks/11_text_to_image.ipynb
    """
    import ipywidgets

    field = ipywidgets.Text(
        start, description="prompt", continuous_update=False, layout={"width": "40em"}
    )
    picture = ipywidgets.HTML()

    def ask(change=None):
        image, remark = answer(field.value)
        style = "width:40em;image-rendering:pixelated"
        shown = _picture(_png(image), f"{alt} {field.value}", style)
        picture.value = f"{shown}<p>{html.escape(remark)}</p>"

    field.observe(ask, "value")
    ask()
    return ipywidgets.VBox([field, picture])


def quiz(pictures, choices):
    """Ask about one picture after the other, with a button for each answer.

    Whether an answer was right is not said: who learns from the answers gives others than who does
    not.

    Args:
        pictures: (number, height, width, channels), values in [0, 1].
        choices: texts of the buttons, at least two.
    Returns:
        An ipywidgets box; `answers_of(box)` gives what was answered so far.
    Raises:
        ValueError: no picture, or fewer than two choices.
    Taught in: notebooks/12_evaluation.ipynb
    """
    import ipywidgets

    if not len(pictures) or len(choices) < 2:
        raise ValueError(
            f"expected at least one picture and two choices, got {len(pictures)} and {len(choices)}"
        )
    shown, place = ipywidgets.HTML(), ipywidgets.HTML()
    buttons = [ipywidgets.Button(description=choice) for choice in choices]
    given = ipywidgets.Text("[]", layout={"display": "none"})

    def show():
        number = len(json.loads(given.value))
        if number == len(pictures):
            shown.value, place.value = "", f"Done: {number} answers. Run the next cell."
            for button in buttons:
                button.disabled = True
            return
        style = "height:12em;image-rendering:pixelated"
        shown.value = _picture(_png(pictures[number]), f"Picture {number + 1}.", style)
        place.value = f"{number + 1} of {len(pictures)}"

    def answer(button):
        answers = json.loads(given.value)
        if len(answers) < len(pictures):
            given.value = json.dumps([*answers, buttons.index(button)])
            show()

    for button in buttons:
        button.on_click(answer)
    show()
    return ipywidgets.VBox([shown, ipywidgets.HBox(buttons), place, given])


def answers_of(box):
    """Read what was answered in a quiz so far.

    Args:
        box: what `quiz` gave.
    Returns:
        list of the numbers of the choices, from 0, one for each picture that was answered.
    """
    return json.loads(box.children[-1].value)


def _picture(png, alt, style=""):
    """Write the bytes of a PNG file as an element of a page."""
    source = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{source}" alt="{html.escape(alt)}" style="{style}">'


def painter(image, *, brush=12, alt="A picture to paint a mask on."):
    """Make a picture to paint a mask on, with a pointer, in an open notebook.

    Paint over what shall go; "clear" starts again. The browser draws with a canvas and hands the
    strokes over as text, so that nothing but ipywidgets is needed. What is painted stays in this
    kernel.

    Args:
        image: float32 (height, width, channels), values in [0, 1].
        brush: width of the brush at the start, in pixels of the image.
        alt: text alternative of the picture.
    Returns:
        An ipywidgets box; `strokes_of(box)` gives what was painted, for `mask_of`.
    Taught in: notebooks/07_inpainting.ipynb
    """
    import ipywidgets

    height, width = image.shape[:2]
    name = f"imagegen-strokes-{uuid.uuid4().hex}"
    text = ipywidgets.Textarea(layout=ipywidgets.Layout(display="none"))
    text.add_class(name)
    page = _CANVAS.format(
        name=name, width=width, height=height, brush=int(brush), alt=html.escape(alt),
        source=base64.b64encode(_png(image)).decode(),
    )  # fmt: skip
    return ipywidgets.VBox([ipywidgets.HTML(page), text])


def strokes_of(box):
    """Read what was painted on a painter.

    Args:
        box: what `painter` gave.
    Returns:
        list of strokes, each a dict of "width" and "points", a list of (x, y) in pixels; empty if
        nothing was painted.
    """
    return json.loads(box.children[1].value or "[]")


def mask_of(strokes, height, width):
    """Draw strokes as a mask.

    Args:
        strokes: list of dicts with "width", in pixels, and "points", at least one (x, y).
        height, width: size of the mask.
    Returns:
        float32 (height, width, 1), 1 where painted.
    Raises:
        ValueError: a stroke without a point, or with a width below 1.
    Example:
        >>> mask_of([{"width": 2, "points": [(1, 1), (6, 1)]}], 4, 8).shape
        (4, 8, 1)

    Taught in: notebooks/07_inpainting.ipynb
    """
    # A line with round ends for each stroke.
    picture = Image.new("L", (width, height))
    pen = ImageDraw.Draw(picture)
    for stroke in strokes:
        thick, points = stroke["width"], [tuple(point) for point in stroke["points"]]
        if not points or not thick >= 1:
            raise ValueError(f"stroke: expected points and a width >= 1, got {stroke}")
        if len(points) > 1:
            pen.line(points, 255, round(thick), joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), 255)
    return (np.asarray(picture)[:, :, None] > 0).astype(np.float32)


def _png(image):
    """Write an image as the bytes of a PNG file."""
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        pixels = np.floor(np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
        return file.getvalue()


# The handlers stand in attributes, because a browser runs no script that is added to a page later.
_CANVAS = """
<div><canvas width="{width}" height="{height}" role="img" aria-label="{alt}" tabindex="0"
 style="width:{width}px;max-width:100%;touch-action:none;cursor:crosshair;
 background-size:100% 100%;background-image:url('data:image/png;base64,{source}')"
 onpointerdown="this.all=this.all||[];this.setPointerCapture(event.pointerId);
  this.one={{width:+this.parentNode.querySelector('input').value,points:[]}};
  this.all.push(this.one);this.onpointermove(event);"
 onpointermove="if(!this.one)return;var r=this.getBoundingClientRect();
  var k=this.width/r.width,c=this.getContext('2d');
  var x=(event.clientX-r.left)*k,y=(event.clientY-r.top)*k,p=this.one.points;
  var q=p.length?p[p.length-1]:[x,y];p.push([Math.round(x*10)/10,Math.round(y*10)/10]);
  c.strokeStyle='#E69F00';c.lineWidth=this.one.width;c.lineCap='round';
  c.beginPath();c.moveTo(q[0],q[1]);c.lineTo(x+0.01,y);c.stroke();"
 onpointerup="this.one=null;var t=document.querySelector('.{name} textarea');
  t.value=JSON.stringify(this.all||[]);t.dispatchEvent(new Event('input',{{bubbles:true}}));
  t.dispatchEvent(new Event('change',{{bubbles:true}}));"
 onpointercancel="this.onpointerup()"
 ></canvas><br>
<label>brush, pixels <input type="range" min="2" max="60" value="{brush}"></label>
<button onclick="var c=this.parentNode.querySelector('canvas');c.all=[];
 c.getContext('2d').clearRect(0,0,c.width,c.height);c.onpointerup();">clear</button></div>
"""
