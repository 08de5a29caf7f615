"""What one sees of a training while it runs, and what is kept of it."""

import html
import importlib.util
import sys
import time
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from imagegen_tf import images, plots

SECONDS_BETWEEN_UPDATES = 0.4
ROUNDING = 0.01  # by which samples may leave [0, 1]: half precision rounds by as much


@dataclass
class History:
    """What a training recorded.

    first: the step at which this training began; above 0 if the model was trained before.
    steps: the number of steps done at each record.
    losses: dict of name to a list, each the mean since the record before.
    samples: dict of step to uint8 images (number, height, width, channels).
    seconds: time spent in training, without pauses between sessions.
    global_batch_size: images per step.
    """

    first: int = 0
    steps: list = field(default_factory=list)
    losses: dict = field(default_factory=dict)
    samples: dict = field(default_factory=dict)
    seconds: float = 0.0
    global_batch_size: int = 0

    @property
    def images_per_second(self):
        """Images trained on per second, all replicas together."""
        if not self.seconds:
            return 0.0
        return (self.steps[-1] - self.first) * self.global_batch_size / self.seconds

    def curves(self, *, alt, **settings):
        """Draw the losses over the steps.

        Args:
            alt: text alternative: what the figure shows.
            settings: as plots.curves takes them.
        Returns:
            A figure.
        """
        lines = {name: (self.steps, values) for name, values in self.losses.items()}
        return plots.curves(lines, xlabel="step", ylabel="loss", alt=alt, **settings)


class Board:
    """A line with progress, losses and the time left, and the latest samples below it.

    In a notebook both are updated in place; in a terminal there is a progress bar; elsewhere
    nothing is shown.
    """

    def __init__(self, steps, history):
        self.steps, self.history = steps, history
        self.started = time.monotonic()
        self.first = history.steps[-1] if history.steps else history.first
        self.updated = 0.0
        self.line = self.picture = self.bar = None
        if _in_notebook():
            from IPython.display import display

            self.line = display(_Line("starting", 0), display_id=True)
        else:
            self.bar = tqdm(total=steps, initial=self.first, unit="step", disable=None, leave=False)

    def update(self):
        """Show the latest record, not more often than one can read."""
        now = time.monotonic()
        if now - self.updated < SECONDS_BETWEEN_UPDATES:
            return
        self.updated = now
        step = self.history.steps[-1]
        losses = " · ".join(
            f"{name} {values[-1]:.3g}" for name, values in self.history.losses.items()
        )
        if self.line:
            rate = (step - self.first) / max(now - self.started, 1e-9)
            left = _clock((self.steps - step) / rate) if rate else "?"
            text = f"step {step:,} of {self.steps:,} · {left} left · {losses}"
            self.line.update(_Line(text, step / self.steps))
        else:
            self.bar.set_postfix_str(losses)
            self.bar.update(step - self.bar.n)

    def show(self, samples):
        """Show samples in the place of those before."""
        if not self.line:
            return
        sheet = plots.contact_sheet(samples)
        figure = plots.grid([sheet], alt="Samples of the latest step.", width=6)
        if self.picture:
            self.picture.update(figure)
        else:
            from IPython.display import display

            self.picture = display(figure, display_id=True)

    def close(self, text):
        """Replace the progress by what is to stay."""
        if self.line:
            self.line.update(_Line(text, None))
        else:
            self.bar.close()


class TensorBoard:
    """Writes losses and samples for TensorBoard, where it is installed."""

    def __init__(self, folder, is_wanted):
        self.writer = None
        if is_wanted and importlib.util.find_spec("tensorboard"):
            import tensorflow as tf

            self.tf = tf
            self.writer = tf.summary.create_file_writer(str(folder))

    def write(self, step, losses, samples=None):
        """Write one record."""
        if self.writer:
            with self.writer.as_default(step):
                for name, value in losses.items():
                    self.tf.summary.scalar(name, value)
                if samples is not None:
                    sheet = images.to_float(plots.contact_sheet(samples))
                    self.tf.summary.image("samples", sheet[None])


class _Line:
    """One line of progress, for a notebook; `share` is None when it is over."""

    def __init__(self, text, share):
        self.text, self.share = text, share

    def __repr__(self):
        return self.text

    def _repr_html_(self):
        bar = (
            "" if self.share is None else f'<progress value="{self.share:.4f}" max="1"></progress> '
        )
        return f"<div>{bar}<code>{html.escape(self.text)}</code></div>"


def _in_notebook():
    """Tell whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def _clock(seconds):
    """Write a duration as one says it."""
    seconds = round(seconds)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def as_bytes(samples):
    """Turn samples into uint8.

    Args:
        samples: float (number, height, width, channels), values in [0, 1], or uint8.
    Returns:
        uint8, same shape.
    Raises:
        ValueError: values clearly outside [0, 1], such as those of a network that gives [-1, 1].
    """
    samples = np.asarray(samples)
    if samples.dtype == np.uint8:
        return samples
    low, high = float(samples.min()), float(samples.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ValueError(f"samples: expected values in [0, 1], got {low:.3g} to {high:.3g}")
    return np.rint(samples.clip(0, 1) * 255).astype(np.uint8)
