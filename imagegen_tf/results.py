"""Measured results: kept as JSON under data/results, and written out as RESULTS.md."""

import json
from datetime import date

from imagegen_tf import hardware, machine, metrics, runtime

FOLDER = runtime.REPOSITORY / "data" / "results"
PAGE = runtime.REPOSITORY / "RESULTS.md"
HEAD = """# Results

Written by `python -m imagegen_tf results` from the files under `data/results`; nothing here is
typed by hand. Each table says what made it, when and on what. Every number stands beside its
baseline, and a bound that was missed says so.
"""


def keep(name, *, title, command, rows, text="", policy="float32", num_replicas=1, **more):
    """Keep measurements under data/results, with the date and the machine; RESULTS.md follows.

    Args:
        name: of the file, without its ending; the profile is added.
        title: heading of the table in RESULTS.md.
        command: what made the measurements, as one types it.
        rows: list of what metrics.row gives; a bound may be None, and a "note" may be added.
        text: what a reader must know of the protocol.
        policy, num_replicas: how it was computed.
        more: further fields of the file, for programs.
    Returns:
        Path of the file.
    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("rows: expected at least one")
    lines = {name: value for name, value, _ in machine.report()}
    parts = (lines["processor"], f"{lines['cores']} cores", best_feature())
    gpus = [value for name, value in lines.items() if name[:4] == "GPU " and name[4:].isdigit()]
    content = {
        "title": title,
        "text": text,
        "command": command,
        "profile": runtime.profile(),
        "date": date.today().isoformat(),
        "machine": ", ".join([*parts, *gpus]),
        "num_replicas": num_replicas,
        "policy": policy,
        "rows": rows,
    }
    file = FOLDER / f"{name}_{runtime.profile()}.json"
    text = json.dumps(content | more, indent=2, ensure_ascii=False, allow_nan=False)
    runtime.write_text(file, text + "\n")
    write()
    return file


def best_feature():
    """Name the widest of the processor's features that TensorFlow makes use of."""
    flags = hardware.cpu_flags()
    found = [feature for feature in machine.FEATURES if feature in flags]
    return found[-1] if found else "features not known"


def page():
    """Lay out all kept results as RESULTS.md has them.

    Returns:
        str.
    """
    kept = [json.loads(file.read_text("utf-8")) for file in sorted(FOLDER.glob("*.json"))]
    return "\n".join([HEAD, *map(_section, kept)])


def write():
    """Write RESULTS.md anew.

    Returns:
        Path of the page.
    """
    runtime.write_text(PAGE, page())
    return PAGE


def _section(content):
    """Lay out one file: a heading, how it was made, and its table."""
    made = (
        f"`{content['command']}`, {content['date']}, profile {content['profile']}, "
        f"{content['policy']}, {content['machine']}."
    )
    heads = ("measure", "value", "baseline", "unit", "bound", "met", "")
    lines = [heads, ["---"] * len(heads), *map(_cells, content["rows"])]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    parts = [f"## {content['title']} ({content['profile']})", content["text"], made, table]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cells(row):
    """Write one row; without a bound nothing can be missed."""
    bound, met = "–", "–"
    if row["bound"] is not None:
        bound = ("≥ " if row["better"] == "higher" else "≤ ") + _number(row["bound"])
        met = "yes" if metrics.is_met(row) else "**no**"
    value, baseline = _number(row["value"]), _number(row["baseline"])
    return row["name"], value, baseline, row["unit"], bound, met, row.get("note", "")


def _number(value):
    """Write a number with four digits, zeros at its end too, or a dash for none."""
    return "–" if value is None else f"{value:#.4g}".rstrip(".")
