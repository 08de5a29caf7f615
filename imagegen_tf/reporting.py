"""The report that ends every chapter: a table of measurements beside their baselines and bounds."""

import html
import json
import math
import time

import numpy as np
import psutil

from imagegen_tf import runtime

ROW_FIELDS = ("name", "value", "baseline", "unit", "better", "bound")


def row(name, value, *, better, bound, baseline=None, unit=""):
    """Make one row of a report.

    Args:
        name: what was measured.
        value: the number.
        better: "higher" or "lower".
        bound: what the value must reach.
        baseline: what one has without the chapter's method, or None.
        unit: of value, baseline and bound.
    Returns:
        dict with these six fields.
    Taught in: notebooks/00_start_here.ipynb
    """
    values = (name, value, baseline, unit, better, bound)
    return dict(zip(ROW_FIELDS, values, strict=True))


def _checked(row):
    """Check one row of a report and give it in its final form."""
    if set(row) != set(ROW_FIELDS):
        raise ValueError(f"row: expected the fields {', '.join(ROW_FIELDS)}, got {', '.join(row)}")
    if row["better"] not in ("higher", "lower"):
        raise ValueError(f'better: expected "higher" or "lower", got {row["better"]!r}')
    row = {field: row[field] for field in ROW_FIELDS}
    for field in ("value", "baseline", "bound"):
        row[field] = None if row[field] is None else float(row[field])
    if row["value"] is None or row["bound"] is None:
        raise ValueError(f"row {row['name']!r}: a value and a bound are needed")
    return row


def is_met(row):
    """Tell whether a row's value is finite and reaches its bound.

    Args:
        row: dict with "value", "bound" (numbers, or "inf" as JSON keeps it) and "better".
    Returns:
        bool.
    """
    value, bound = float(row["value"]), float(row["bound"])
    return math.isfinite(value) and (
        value >= bound if row["better"] == "higher" else value <= bound
    )


def number(value, form=".4g"):
    """Write a number with four digits, or a dash for none."""
    return "–" if value is None else f"{float(value):{form}}".rstrip(".")


def limit(row, form=".4g"):
    """Write a row's bound with its direction, or a dash for none."""
    sign = "≥ " if row["better"] == "higher" else "≤ "
    return "–" if row["bound"] is None else sign + number(row["bound"], form)


class _Table:
    """The rows of a report, as a notebook and a terminal show them."""

    def __init__(self, rows):
        self.lines = [("measure", "value", "baseline", "unit", "better", "bound", "met")]
        for row in rows:
            value, baseline = number(row["value"]), number(row["baseline"])
            ends = (row["unit"], row["better"], limit(row), "yes" if is_met(row) else "NO")
            self.lines.append((row["name"], value, baseline, *ends))

    def __repr__(self):
        widths = [max(map(len, column)) for column in zip(*self.lines, strict=True)]
        lines = ("  ".join(map(str.ljust, line, widths)) for line in self.lines)
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self):
        def line(texts, tag):
            return "<tr>" + "".join(f"<{tag}>{html.escape(t)}</{tag}>" for t in texts) + "</tr>"

        head, *body = self.lines
        rows = "".join(line(texts, "td") for texts in body)
        return f"<table><thead>{line(head, 'th')}</thead><tbody>{rows}</tbody></table>"


def _plain(value):
    """Give what JSON knows: NumPy's scalars as Python's, inf and nan as texts."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def report(
    chapter,
    rows,
    *,
    dataset,
    seed,
    run=None,
    history=None,
    models=None,
    trained_here=None,
    steps=None,
    seconds=None,
    num_replicas=None,
    policy=None,
):
    """Write a chapter's measurements to metrics.json, show them, and hold them to their bounds.

    Args:
        chapter: the notebook's name without ending, "NN_topic"; names the folder under
            IMAGEGEN_RUNS.
        rows: list of what row() gives.
        dataset: name of the data measured on.
        seed: the chapter's seed.
        run: runtime.Runtime, which tells num_replicas and policy; 1 and float32 without.
        history: what training.fit gave, or a list of such, which tell trained_here, steps and
            seconds; None where nothing was trained.
        models: dict of role to {"file", "input", "output"}, for chapters that save networks.
        trained_here, steps, seconds, num_replicas, policy: in the place of what run and history
            tell. Without a history the seconds are those since this Python process started.
    Raises:
        ValueError: a row with missing or unknown fields; nothing is written.
        AssertionError: a value misses its bound or is not finite; the file is written nevertheless.
    Taught in: notebooks/00_start_here.ipynb
    """
    from IPython.display import display

    rows = [_checked(row) for row in rows]
    if not rows:
        raise ValueError("rows: expected at least one")
    histories = history if isinstance(history, list | tuple) else [history] if history else []
    if seconds is None:
        seconds = sum(training.seconds for training in histories)
        seconds = seconds if histories else time.time() - psutil.Process().create_time()
    if steps is None:
        steps = sum(training.steps[-1] - training.first for training in histories)
    content = {
        "chapter": chapter,
        "profile": runtime.profile(),
        "dataset": dataset,
        "seed": int(seed),
        "trained_here": bool(histories) if trained_here is None else trained_here,
        "steps": steps,
        "seconds": round(float(seconds), 1),
        "num_replicas": num_replicas or (run.num_replicas if run else 1),
        "policy": policy or (run.policy if run else "float32"),
        "rows": rows,
    }
    if models:
        content["models"] = models
    text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    runtime.write_text(runtime.runs_folder() / chapter / "metrics.json", text)
    display(_Table(rows))
    missed = [row for row in rows if not is_met(row)]
    if missed:
        texts = (
            f"{row['name']} is {number(row['value'])}, bound {number(row['bound'])}"
            for row in missed
        )
        raise AssertionError("missed: " + "; ".join(texts))
