"""What all benchmarks share: taking turns, and the rows of the table.

A ratio is of speeds (above 1: ours is faster) unless a row says otherwise. Ours and the baseline
take turns in one process, so that a busy machine slows both down alike.
"""

import math
import subprocess
import sys
import time

import numpy as np

from imagegen_tf import runtime

REPEATS, FEWER = 5, 3  # turns of each; fewer where both together last longer than LONG
LEAST, LONG = 0.3, 4.0  # seconds; what takes less than LEAST is called more often
TURN = 15  # seconds of training before it is the other's turn


def row(name, baseline, ratio, *, bound=None, better="higher", spread=None, note=""):
    """Make one line of the table; without repeats there is no spread."""
    lowest, highest = (None, None) if spread is None else (float(f"{one:.4g}") for one in spread)
    met = bound is None or (ratio >= bound if better == "higher" else ratio <= bound)
    return {
        "name": name,
        "baseline": baseline,
        "ratio": float(f"{ratio:.4g}"),
        "lowest": lowest,
        "highest": highest,
        "better": better,
        "bound": bound,
        "met": bool(met and math.isfinite(ratio)),
        "note": note,
    }


def number(value):
    """Write a number for people, with three digits or all before the point."""
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def from_pairs(name, baseline, pairs, *, inverse=False, **more):
    """Make a row of (own, baseline's) seconds; inverse gives own time over baseline's."""
    pairs = np.array(pairs)[:, ::-1] if inverse else np.array(pairs)
    ratios = pairs[:, 1] / pairs[:, 0]
    own, theirs = np.median(pairs, axis=0)
    better = "lower" if inverse else "higher"
    spread = ratios.min(), ratios.max()
    return row(name, baseline, theirs / own, better=better, spread=spread, **more)


def compare(name, ours, baseline, theirs, *, work=(1, 1), unit="", note="", **more):
    """Let two functions take turns; the row has the ratio of their speeds.

    work: what one call of each gets done; unit: what of, for the note.
    """
    sides = [(one, calls(one), amount) for one, amount in zip((ours, theirs), work, strict=True)]
    pairs = []
    while len(pairs) < (REPEATS if np.sum(pairs[:1]) < LONG else FEWER):
        pairs.append([seconds(one, count) for one, count, _ in sides])
    pairs = np.array(pairs) / [count * amount for _, count, amount in sides]
    if unit:
        own, other = 1 / np.median(pairs, axis=0)
        note = f"{number(own)} and {number(other)} {unit}/s{', ' if note else ''}{note}"
    return from_pairs(name, baseline, pairs, note=note, **more)


def seconds(function, count=1):
    """Time some calls, and wait for what the last one gives."""
    start = time.perf_counter()
    for _ in range(count):
        result = function()
    wait(result)
    return time.perf_counter() - start


def calls(function):
    """Tell how many calls last long enough to be measured; the first, which compiles, is spared."""
    if seconds(function) > LONG:
        return 1
    return max(1, round(LEAST / max(seconds(function), LEAST / 1_000)))


def wait(result):
    """Wait until a device has computed a tensor, or a dict of them."""
    for one in result.values() if isinstance(result, dict) else [result]:
        if hasattr(one, "numpy"):
            one.numpy()


def in_turns(seconds, *steps):
    """Call each step function over and over for so many seconds, in turns; count the calls."""
    counts, spent = [0] * len(steps), [0.0] * len(steps)
    for step in steps:
        step()  # compiles
    while min(spent) < seconds:
        for number, step in enumerate(steps):
            start = time.perf_counter()
            while (passed := time.perf_counter() - start) < min(TURN, seconds - spent[number]):
                step()
                counts[number] += 1
            spent[number] += passed
    return counts


def python(program, *arguments):
    """Run a program in a fresh Python, and give the words of the last line that it prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=runtime.repository()
    )
    if done.returncode:
        raise RuntimeError(f"a process of the benchmark failed:\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1].split()
