"""Measured results: kept as JSON under data/results, and written out as RESULTS.md."""

import hashlib
import json
import re
import time
import warnings
from datetime import date
from pathlib import Path

import nbformat

from course import doctor, parameters
from imagegen_tf import metrics, runtime

FOLDER = runtime.repository() / "data" / "results"
PAGE = runtime.repository() / "RESULTS.md"
HEAD = """# Results

Written by `python -m imagegen_tf results` from the files under `data/results`; nothing here is
typed by hand. Each table says what made it, when and on what. Every number stands beside its
baseline, and a bound that was missed says so.

First the chapters, one run for each seed: value, baseline and bound are means over the seeds,
beside the lowest and the highest value, and *met* counts the runs that held the bound. Then the
benchmarks.
"""
FIELDS = ("value", "baseline", "bound")
DIGITS = "#.4g"  # four, zeros at the end too
TIMES = (("seconds", "for a run"), ("processor_seconds", "of processor time"))
# Two runs are of one kind, and stand in one table, if all of these are equal.
KIND = ("chapter", "code", "profile", "dataset", "settings", "machine", "policy", "num_replicas")


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
    content = {
        "title": title,
        "text": text,
        "command": command,
        "profile": runtime.profile(),
        "date": date.today().isoformat(),
        "machine": machine_name(),
        "num_replicas": num_replicas,
        "policy": policy,
        "rows": rows,
    }
    return _store(f"{name}_{runtime.profile()}", content | more)


def keep_chapter(path, settings, outcome):
    """Keep what a chapter's run measured, beside its runs with other seeds.

    Runs of the same code with the same settings on the same machine stand in one file; whatever
    else the file held before is dropped. A run that failed is kept only if all that failed is a
    bound: the table then says so.

    Args:
        path: of the notebook.
        settings: dict of parameter name to value, as given to course.run.
        outcome: course.Outcome of the run, which has just ended.
    Returns:
        Path of the file. None if the chapter failed, or has other code now (with a warning).
    Raises:
        ValueError: the chapter passed, but wrote no metrics.json.
    """
    file = runtime.runs_folder() / path.stem / "metrics.json"
    begun = time.time() - 60 * outcome.minutes - 1
    is_new = file.exists() and file.stat().st_mtime >= begun
    if not is_new and outcome.error is None:
        raise ValueError(f"{path.stem} wrote no metrics.json, so there is nothing to keep")
    measured = json.loads(file.read_text("utf-8")) if is_new else {"rows": []}
    if outcome.error is not None and all(map(metrics.is_met, measured["rows"])):
        return None
    present = nbformat.read(path, as_version=4)
    parameters.override(present, settings)
    executed = nbformat.read(file.with_name(path.name), as_version=4)
    if _code(present) != _code(executed):
        warnings.warn(f"{path.stem} has other code now than was run: not kept", stacklevel=2)
        return None
    settings = {name: _public(value) for name, value in settings.items() if name != "SEED"}
    kind = {
        "title": _title(path, _public(measured["dataset"])),
        "chapter": path.stem,
        "code": _code(nbformat.read(path, as_version=4)),
        "profile": measured["profile"],
        "dataset": _public(measured["dataset"]),
        "settings": settings,
        "machine": machine_name(),
        "policy": measured["policy"],
        "num_replicas": measured["num_replicas"],
    }
    run = {
        "seed": measured["seed"],
        "date": date.today().isoformat(),
        "seconds": round(60 * outcome.minutes, 1),
        "processor_seconds": round(60 * outcome.processor_minutes, 1),
        "training_seconds": measured["seconds"],
        "steps": measured["steps"],
        "trained_here": measured["trained_here"],
        "rows": measured["rows"],
    }
    name = _file_name(kind)
    runs = {kept["seed"]: kept for kept in [*_runs_before(name, kind), run]}
    return _store(name, kind | {"runs": [runs[seed] for seed in sorted(runs)]})


def keep_ratios(content):
    """Keep a table of ratios, as tests/benchmarks makes it; give the path of the file.

    Args:
        content: dict with "command", "date", "machine", "profile", "policy" and "ratios".
    """
    return _store(f"benchmarks_{content['profile']}", content)


def machine_name():
    """Name this machine in a few words: processor, cores, its best feature, GPUs."""
    lines = {name: value for name, value, _ in doctor.examine()}
    gpus = [value for name, value in lines.items() if name[:4] == "GPU " and name[4:].isdigit()]
    flags = runtime.cpu_flags()
    best = [feature for feature in doctor.FEATURES if feature in flags] or ["features not known"]
    return ", ".join([lines["processor"], f"{lines['cores']} cores", best[-1], *gpus])


def page():
    """Lay out all kept results as RESULTS.md has them, the chapters first.

    Returns:
        str.
    """
    kept = [json.loads(file.read_text("utf-8")) for file in sorted(FOLDER.glob("*.json"))]
    chapters = [content for content in kept if "runs" in content]
    overview = [_overview(chapters)] if chapters else []
    return "\n".join([HEAD, *overview, *map(_section, kept)])


def write():
    """Write RESULTS.md anew.

    Returns:
        Path of the page.
    """
    runtime.write_text(PAGE, page())
    return PAGE


def rows_of(runs):
    """Gather what several runs of a chapter measured of the same.

    Args:
        runs: list of dicts with "rows", as a chapter's file of results holds them.
    Returns:
        list with, for each row's name in order, the list of that row in each run that has it.
    """
    names = dict.fromkeys(row["name"] for run in runs for row in run["rows"])
    return [[row for run in runs for row in run["rows"] if row["name"] == name] for name in names]


def _store(name, content):
    """Write a file of results, and the page anew."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    file = FOLDER / f"{name}.json"
    runtime.write_text(file, text + "\n")
    write()
    return file


def _title(path, dataset):
    """Give the heading of a chapter's table: the notebook's own up to a colon, and the data."""
    first = nbformat.read(path, as_version=4).cells[0].source.partition("\n")[0]
    title = first.removeprefix("# ").partition(":")[0].replace(" · ", " ")
    return f"{title}: {dataset}"


def _code(notebook):
    """Sum up the code of a notebook, so that runs of two versions of it are never mixed."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def _public(value):
    """Leave out where on this machine a folder of data is."""
    if isinstance(value, str) and re.match(r"(folder|captions):", value):
        before, _, folder = value.partition(":")
        return f"{before}:{Path(folder).name}"
    return value


def _file_name(kind):
    """Name a file by the chapter, the profile, and every setting that is not the default."""
    settings = [
        str(value) if name == "DATASET" else f"{name.lower()}-{value}"
        for name, value in sorted(kind["settings"].items())
    ]
    replicas = [f"{kind['num_replicas']}-replicas"] if kind["num_replicas"] > 1 else []
    parts = [kind["chapter"], kind["profile"], *settings, *replicas]
    return "_".join(re.sub(r"[^\w.]+", "-", part).strip("-") for part in parts)


def _runs_before(name, kind):
    """Give the runs of the same kind that were kept before."""
    file = FOLDER / f"{name}.json"
    kept = json.loads(file.read_text("utf-8")) if file.exists() else {}
    plain = json.loads(json.dumps(kind))  # as JSON has it: tuples are lists there
    return kept["runs"] if all(kept.get(field) == plain[field] for field in KIND) else []


def _section(content):
    """Lay out one file: a heading, how it was made, and its table."""
    if "runs" in content:
        return _chapter(content)
    made = (
        f"`{content['command']}`, {content['date']}, profile {content['profile']}, "
        f"{content['policy']}, {content['machine']}."
    )
    if "ratios" in content:
        heads = ("measure", "ratio", "lowest to highest", "baseline", "bound", "met", "")
        table = _table(heads, map(_ratio_cells, content["ratios"]))
    else:
        heads = ("measure", "value", "baseline", "unit", "bound", "met", "")
        table = _table(heads, map(_cells, content["rows"]))
    return _laid_out(content, content["text"], made, table)


def _laid_out(content, *parts):
    """Put a heading above paragraphs."""
    heading = f"## {content['title']} ({content['profile']})"
    return "\n\n".join(part for part in (heading, *parts) if part) + "\n"


def _overview(chapters):
    """Lay out how long each chapter ran, and how many of its bounds it held."""
    lines, quick = [], []
    for content in chapters:
        runs, profile = content["runs"], content["profile"]
        minutes = _mean([run["seconds"] for run in runs]) / 60
        if profile == "quick" and not content["settings"] and content["num_replicas"] == 1:
            quick.append(minutes)
        rows = [row for run in runs for row in run["rows"]]
        held = f"{sum(map(metrics.is_met, rows))} of {len(rows)}"
        lines.append((content["title"], profile, f"{minutes:.1f}", str(len(runs)), held))
    total = (
        f"{len(quick)} chapters in quick, on their default data, one after the other: "
        f"{sum(quick):.0f} minutes."
    )
    table = _table(("chapter", "profile", "minutes a run", "runs", "bounds held"), lines)
    return f"## Overview\n\n{total}\n\n{table}\n"


def _chapter(content):
    """Lay out the runs of a chapter."""
    runs, profile = content["runs"], content["profile"]
    days = sorted({run["date"] for run in runs})
    words = ["python -m imagegen_tf run", content["chapter"][:2], "--keep --seeds"]
    words += [str(run["seed"]) for run in runs]
    words += ["--profile full"] if profile == "full" else []
    words += ["--set", *map(_setting, content["settings"].items())] if content["settings"] else []
    took = [f"{_range([run[field] for run in runs], '.0f')} s {what}" for field, what in TIMES]
    replicas = f", {content['num_replicas']} replicas" if content["num_replicas"] > 1 else ""
    made = (
        f"`{' '.join(words)}`, {' to '.join(days[:1] + days[1:][-1:])}, profile {profile}, "
        f"{content['policy']}{replicas}, {content['machine']}; {', '.join(took)}."
    )
    heads = ("measure", "value", "lowest to highest", "baseline", "unit", "bound", "met")
    return _laid_out(content, made, _table(heads, map(_run_cells, rows_of(runs))))


def _run_cells(group):
    """Write what several runs measured of the same."""
    first = group[0]
    value, baseline, bound = (_mean([row[field] for row in group]) for field in FIELDS)
    met, values = sum(map(metrics.is_met, group)), [float(row["value"]) for row in group]
    count = f"{met} of {len(group)}"
    return (
        first["name"],
        metrics.number(value, DIGITS),
        _range(values, DIGITS) if len(group) > 1 else "–",
        metrics.number(baseline, DIGITS),
        first["unit"],
        metrics.limit(first | {"bound": bound}, DIGITS),
        count if met == len(group) else f"**{count}**",
    )


def _mean(values):
    """Give the mean of those that are known, None if there is none."""
    known = [float(value) for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _verdict(row, met):
    """Write a bound and whether it was met; without a bound nothing can be missed."""
    verdict = "–" if row["bound"] is None else "yes" if met else "**no**"
    return metrics.limit(row, DIGITS), verdict


def _cells(row):
    """Write one row."""
    met = row["bound"] is not None and metrics.is_met(row)
    value, baseline = (metrics.number(row[field], DIGITS) for field in FIELDS[:2])
    return row["name"], value, baseline, row["unit"], *_verdict(row, met), row.get("note", "")


def _ratio_cells(row):
    """Write one ratio."""
    ends = [row["lowest"], row["highest"]]
    spread = "–" if row["lowest"] is None else _range(ends, DIGITS)
    ratio = metrics.number(row["ratio"], DIGITS)
    return row["name"], ratio, spread, row["baseline"], *_verdict(row, row["met"]), row["note"]


def _table(heads, rows):
    """Lay out a table of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _range(values, form):
    """Write the lowest and the highest of some numbers, or the only one."""
    ends = [metrics.number(value, form) for value in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))


def _setting(pair):
    """Write a setting as one types it."""
    text = f"{pair[0]}={pair[1]}"
    return f"'{text}'" if re.search(r"[^\w.=:-]", text) else text
