"""What agrees with the kept runs of a chapter (quick, default data, three seeds).

- A notebook's stored table: the same rows and bounds, and each value no further outside of what the
  seeds ranged over than they are apart, or than a quarter of the way to the bound.
- The minutes that README.md and a notebook state: not less than two cores need for the processor
  time that was used, and not half as much again as the fastest run, give or take half a minute
  (a quarter where seconds are stated).
- A number that a text cites as a link, [33.0 dB](RESULTS.md#section): it stands in that section's
  table, rounded as cited. README.md cites every decibel, nat, percentage and image per second so.
"""

import html
import json
import re

import nbformat
import pytest

from course import notebooks, results
from imagegen_tf import metrics, runtime

NOTEBOOKS = notebooks.chapters()
KEPT = [path for path in NOTEBOOKS if (results.FOLDER / f"{path.stem}_quick.json").exists()]
README = runtime.repository() / "README.md"
LINK = re.compile(r"\[([^\]]*)\]\((?:\.\./)?RESULTS\.md#([\w-]+)\)")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
MEASURED = re.compile(r"\d[\d.,]*\s?(?:dB\b|nats\b|images/s|%)")
STATED = re.compile(r"(under|about)? ?(\d+) (min|s)")


def kept(path):
    """The kept quick runs of a chapter on its default data."""
    return json.loads((results.FOLDER / f"{path.stem}_quick.json").read_text("utf-8"))


def stored_table(notebook):
    """The rows of the table that metrics.report left in a notebook, as texts."""
    tables = [
        output.data["text/html"]
        for cell in notebook.cells
        if cell.cell_type == "code" and "metrics.report(" in cell.source
        for output in cell.outputs
        if "text/html" in output.get("data", {})
    ]
    rows = re.findall(r"<tr>(<td>.*?)</tr>", tables[-1] if tables else "")
    return [[html.unescape(text) for text in re.findall(r"<td>(.*?)</td>", row)] for row in rows]


def disagreements(stored, runs):
    """Say where a stored table and the runs of several seeds disagree."""
    groups = results.rows_of(runs)
    names = [group[0]["name"] for group in groups]
    if [row[0] for row in stored] != names:
        yield f"the rows are {[row[0] for row in stored]}, kept are {names}"
        return
    for (name, value, _, unit, better, bound, _), group in zip(stored, groups, strict=True):
        if (unit, better) != (group[0]["unit"], group[0]["better"]):
            yield f"{name}: {unit}, {better} is better; kept otherwise"
        values, bounds = ([float(row[field]) for row in group] for field in ("value", "bound"))
        margin = abs(sum(values) - sum(bounds)) / len(group) / 4
        for what, text, numbers, more in (
            ("value", value, values, margin),
            ("bound", bound[2:], bounds, 0),
        ):
            lowest, highest = min(numbers), max(numbers)
            rounding = 1e-3 * max(abs(lowest), abs(highest))  # the table has four digits
            slack = max(highest - lowest, more) + rounding
            if not lowest - slack <= float(text) <= highest + slack:
                yield f"{name}: {what} {text}, kept {lowest:.4g} to {highest:.4g}"


def stated(text):
    """The seconds that a text states, and whether it says "under"."""
    under, number, unit = STATED.search(text).groups()
    return int(number) * (60 if unit == "min" else 1), under == "under"


def wrong_about_time(text, runs):
    """Say what is wrong with a stated time; None if nothing is."""
    seconds, is_limit = stated(text)
    least = min(run["processor_seconds"] for run in runs) / 2
    longest = 1.5 * min(run["seconds"] for run in runs)
    slack = 0 if is_limit else 30 if seconds >= 60 else 15
    if seconds < least - slack:
        return f"{text!r}: two cores need at least {least:.0f} s"
    if seconds > longest + slack and not is_limit:
        return f"{text!r}: a run took {longest / 1.5:.0f} s"
    return None


def sections(page):
    """The sections of a page by the names that links give them."""
    parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)[1:]
    slugs = (re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in parts[::2])
    return dict(zip(slugs, parts[1::2], strict=True))


def wrong_citations(text, page):
    """Say which cited numbers do not stand where the link says."""
    known = sections(page)
    for words, slug in LINK.findall(text):
        if slug not in known:
            yield f"RESULTS.md has no section {slug}"
            continue
        table = [line for line in known[slug].splitlines() if line.startswith("|")]
        numbers = [float(one.replace(",", "")) for one in NUMBER.findall(" ".join(table))]
        for one in NUMBER.findall(words):
            digits = len(one.partition(".")[2])
            if float(one.replace(",", "")) not in {round(number, digits) for number in numbers}:
                yield f"{one} does not stand in the table of {slug}"


def test_every_chapter_is_kept():
    """Run: python -m imagegen_tf run NN --keep --seeds 0 1 2."""
    assert KEPT == NOTEBOOKS


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_three_seeds_are_kept_and_hold_every_bound(path):
    content = kept(path)
    assert {0, 1, 2} <= {run["seed"] for run in content["runs"]}
    assert content["settings"] == {}
    assert ", 2 cores," in content["machine"]
    missed = [
        (run["seed"], row["name"])
        for run in content["runs"]
        for row in run["rows"]
        if not metrics.is_met(row)
    ]
    assert not missed


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_notebooks_table_agrees_with_the_kept_runs(path):
    stored = stored_table(nbformat.read(path, as_version=4))
    assert not list(disagreements(stored, kept(path)["runs"]))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_stated_times_agree_with_the_kept_runs(path):
    runs = kept(path)["runs"]
    (line,) = (one for one in README.read_text("utf-8").splitlines() if f"{path.name})" in one)
    in_readme = line.split("|")[-2]
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells[:4])
    (in_notebook,) = re.findall(r"(?:about )?\d+ \w+(?= to run on two CPU cores)", text)
    assert [wrong_about_time(one, runs) for one in (in_readme, in_notebook)] == [None, None]


@pytest.mark.parametrize("path", [README, *NOTEBOOKS], ids=lambda path: path.stem)
def test_cited_numbers_stand_in_the_results(path):
    text = path.read_text("utf-8")
    assert not list(wrong_citations(text, results.PAGE.read_text("utf-8")))


def test_the_readme_cites_every_measured_number():
    assert not MEASURED.findall(LINK.sub("", README.read_text("utf-8")))


def test_the_checks_find_what_is_wrong():
    rows = [
        metrics.row("error", value, better="lower", bound=10.0, unit="dB") for value in (1.9, 2.1)
    ]
    runs = [{"rows": [row]} for row in rows]
    right = ["error", "2", "–", "dB", "lower", "≤ 10", "yes"]
    assert not list(disagreements([right], runs))
    for column, text in ((0, "mistake"), (1, "4.2"), (3, ""), (4, "higher"), (5, "≤ 9.9")):
        assert list(disagreements([right[:column] + [text] + right[column + 1 :]], runs))
    times = [{"seconds": 200, "processor_seconds": 300}, {"seconds": 900, "processor_seconds": 310}]
    assert not wrong_about_time("about 3 min", times)
    for text in ("about 1 min", "about 6 min", "under 30 s"):
        assert wrong_about_time(text, times)
    page = "# R\n\n## Set5: x3 (quick)\n\nin 7 s\n\n| a | 33.01 | 1,234 |\n\n## Other\n\n| 33.1 |\n"
    cited = "[33.0 dB](RESULTS.md#set5-x3-quick) and [1,234](../RESULTS.md#set5-x3-quick)"
    assert not list(wrong_citations(cited, page))
    for text in (
        "[33.1](RESULTS.md#set5-x3-quick)",
        "[7](RESULTS.md#set5-x3-quick)",
        "[1](RESULTS.md#x)",
    ):
        assert list(wrong_citations(text, page))
