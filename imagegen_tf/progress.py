"""What one sees of a training while it runs, and what is kept of it."""

import html
import sys
import time
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from imagegen_tf import plots

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
    """Fills a history; shows a line with progress, losses and time left, and the latest samples.

    In a notebook both are updated in place; in a terminal there is a progress bar; elsewhere
    nothing is shown.

    Args:
        history: History to fill.
        target: the step at which training ends.
        samples: function that draws samples, or None.
        samples_every: steps between them.
    """

    def __init__(self, history, target, samples, samples_every):
        self.history, self.target = history, target
        self.samples, self.samples_every = samples, samples_every
        self.first = history.steps[-1] if history.steps else history.first
        self.seconds_before, self.started = history.seconds, time.monotonic()
        self.updated = 0.0
        self.picture, self.line = None, _display(_Line("starting", 0))
        if not self.line:
            # disable=None: no bar where the output is no terminal.
            options = {"unit": "step", "disable": None, "leave": False}
            self.bar = tqdm(total=target, initial=self.first, **options)

    def record(self, step, recent):
        """Record the means of what the steps since the last record returned, and empty the list.

        Args:
            step: number of steps done.
            recent: list of dicts of name to scalar, at least one.
        Returns:
            dict of name to mean.
        Raises:
            FloatingPointError: a loss is not finite.
        """
        losses = {
            name: float(np.mean([np.asarray(one_step[name]) for one_step in recent]))
            for name in recent[0]
        }
        recent.clear()
        self.history.steps.append(step)
        self.history.seconds = self.seconds_before + time.monotonic() - self.started
        for name, value in losses.items():
            if not np.isfinite(value):
                raise FloatingPointError(
                    f"the loss {name!r} is {value} at step {step}. Build the model anew; try a "
                    'lower learning rate or precision="float32", and look for NaN in the data and '
                    "for a logarithm or a division of 0 in train_step"
                )
            self.history.losses.setdefault(name, []).append(value)
        self.sample(step)
        self._show_progress(step, losses)
        return losses

    def sample(self, step):
        """Draw samples if they are due: at the first and the last step, and regularly between."""
        last = max(self.history.samples, default=None)
        is_first_or_last = last is None or step == self.target != last
        if self.samples and (
            is_first_or_last or step // self.samples_every > last // self.samples_every
        ):
            self.history.samples[step] = as_bytes(self.samples())
            if self.line:
                sheet = plots.contact_sheet(self.history.samples[step])
                figure = plots.grid([sheet], alt="Samples of the latest step.", width=6)
                if self.picture:
                    self.picture.update(figure)
                else:
                    self.picture = _display(figure)

    def _show_progress(self, step, losses):
        """Show the latest record, not more often than one can read."""
        now = time.monotonic()
        if now - self.updated < SECONDS_BETWEEN_UPDATES:
            return
        self.updated = now
        text = " · ".join(f"{name} {value:.3g}" for name, value in losses.items())
        if self.line:
            seconds_per_step = (now - self.started) / max(step - self.first, 1)
            left = _duration((self.target - step) * seconds_per_step)
            text = f"step {step:,} of {self.target:,} · {left} left · {text}"
            self.line.update(_Line(text, step / self.target))
        else:
            self.bar.set_postfix_str(text)
            self.bar.update(step - self.bar.n)

    def close(self, text):
        """Replace the progress by what is to stay."""
        if self.line:
            self.line.update(_Line(text, None))
        else:
            self.bar.close()


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


def _display(shown):
    """Display something that can be updated later; give None where this is no notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if not hasattr(shell, "kernel"):
        return None
    return ipython.display.display(shown, display_id=True)


def _duration(seconds):
    """Write a duration as one says it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


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
