"""The table of ratios as text and as JSON, and what changed since an older one."""

import json
import math
from datetime import date
from pathlib import Path

from course import doctor, results
from imagegen_tf import runtime
from tests.benchmarks.timing import number

SCHEMA = "imagegen-tf benchmarks 1"
FIELDS = {
    "name": str,
    "baseline": str,
    "ratio": (int, float),
    "lowest": (int, float, type(None)),
    "highest": (int, float, type(None)),
    "better": str,
    "bound": (int, float, type(None)),
    "met": bool,
    "note": str,
}


def content(rows, command):
    """Give what the JSON holds: how the rows were made, and the rows."""
    lines = {name: value for name, value, _ in doctor.examine()}
    return {
        "schema": SCHEMA,
        "title": "Benchmarks",
        "text": "Ratios against a baseline that was measured in the same run, in turns: median of "
        "several turns, beside the lowest and the highest. Speed over speed where more is better.",
        "command": command,
        "date": date.today().isoformat(),
        "machine": results.machine_name(),
        "profile": runtime.profile(),
        "policy": lines["precision"].partition(":")[0],
        "ratios": rows,
    }


def write(file, kept):
    """Write the JSON."""
    text = json.dumps(kept, indent=2, ensure_ascii=False, allow_nan=False)
    runtime.write_text(file, text + "\n")


def read(file):
    """Read a JSON that `write` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is something else; the message says what.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}, expected the JSON of an earlier run")
    try:
        found = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"{file} has schema {schema!r}, expected {SCHEMA!r}")
    for place, row in enumerate(found.get("ratios", ()), 1):
        check(row, f"{file}, row {place}")
    if not found.get("ratios"):
        raise ValueError(f"{file} has no row")
    return found


def check(row, where="row"):
    """Check that a row has a name, a baseline, a ratio, and the rest of its fields."""
    if not isinstance(row, dict) or set(row) != set(FIELDS):
        got = ", ".join(row) if isinstance(row, dict) else repr(row)
        raise ValueError(f"{where}: expected the fields {', '.join(FIELDS)}; got {got}")
    for field, kind in FIELDS.items():
        if not isinstance(row[field], kind):
            raise ValueError(f"{where}: {field} is {row[field]!r}")
    if not row["name"] or not row["baseline"]:
        raise ValueError(f"{where}: name and baseline must not be empty")
    if not (math.isfinite(row["ratio"]) and row["ratio"] > 0):
        raise ValueError(f"{where}: expected a ratio above 0, got {row['ratio']!r}")


def line(row):
    """Lay out one row, with its note below."""
    ends = [number(row[end]) for end in ("lowest", "highest") if row[end] is not None]
    spread = f"({' to '.join(ends)})" if ends else ""
    sign = "≥" if row["better"] == "higher" else "≤"
    bound = "" if row["bound"] is None else f"{sign} {row['bound']:g}"
    verdict = "" if row["met"] else "  MISSED"
    first = f"{row['name']:48} {number(row['ratio']):>7} x {row['baseline']:44} {spread:18}{bound}"
    return f"{first.rstrip()}{verdict}" + (f"\n    {row['note']}" if row["note"] else "")


def changes(old, new):
    """Compare two tables row by row, as lines of text.

    A change is marked if it is larger than the noise of both: each ratio lies outside of what the
    other's repeats ranged over. Of a row that was measured once no noise is known.
    """
    before = {(row["name"], row["baseline"]): row for row in old["ratios"]}
    lines = [
        f"old: {old['command']}, {old['date']}, {old['policy']}, {old['machine']}",
        f"new: {new['command']}, {new['date']}, {new['policy']}, {new['machine']}",
        f"{'':96} {'old':>7} {'new':>7}  change",
    ]
    for row in new["ratios"]:
        earlier = before.pop((row["name"], row["baseline"]), None)
        name = f"{row['name']:48} x {row['baseline']:45}"
        if earlier is None:
            lines.append(f"{name} {'–':>7} {number(row['ratio']):>7}  new")
        else:
            was, now = earlier["ratio"], row["ratio"]
            change = f"{now / was - 1:+.0%}{mark(earlier, row)}"
            lines.append(f"{name} {number(was):>7} {number(now):>7}  {change}")
    lines += [f"not measured now: {name} x {baseline}" for name, baseline in before]
    return lines


def mark(old, new):
    """Say of a change what it means."""
    if old["lowest"] is None or new["lowest"] is None:
        return " (noise not known)"
    is_larger = [
        not one["lowest"] <= other["ratio"] <= one["highest"]
        for one, other in ((old, new), (new, old))
    ]
    if not all(is_larger):
        return ""
    is_better = (new["ratio"] > old["ratio"]) == (new["better"] == "higher")
    return " BETTER" if is_better else " WORSE"
