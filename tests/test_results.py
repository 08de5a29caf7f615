"""results: what is kept, that RESULTS.md is what the kept files say, and that nothing disagrees.

What agrees with the kept runs of a chapter (quick, default data, three seeds):

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
import os
import re
import time
from types import SimpleNamespace

import nbformat
import pytest

from course import cli, notebooks, results
from imagegen_tf import metrics, runtime

NOTEBOOKS = notebooks.chapters()
KEPT = [path for path in NOTEBOOKS if (results.FOLDER / f"{path.stem}_quick.json").exists()]
README = runtime.repository() / "README.md"
LINK = re.compile(r"\[([^\]]*)\]\((?:\.\./)?RESULTS\.md#([\w-]+)\)")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
MEASURED = re.compile(r"\d[\d.,]*\s?(?:dB\b|nats\b|images/s|%)")
STATED = re.compile(r"(under|about)? ?(\d+) (min|s)")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Give an empty folder of results, and a page beside it."""
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(results, "PAGE", tmp_path / "RESULTS.md")
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path / "runs"))
    for name in ("IMAGEGEN_PROFILE", "IMAGEGEN_CPU_REPLICAS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def a_row(value, bound, better="higher"):
    return metrics.row("PSNR", value, better=better, baseline=30.39, bound=bound, unit="dB")


# What stands in the repository.


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


def test_the_page_is_made_of_the_kept_files():
    assert results.PAGE.read_text("utf-8") == results.page(), "run: make results"


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
        if not results.is_met(row)
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


# That these checks find what is wrong.


def runs_of(*values, bound=10.0):
    """One row in several runs."""
    rows = [metrics.row("error", one, better="lower", bound=bound, unit="dB") for one in values]
    return [{"rows": [row]} for row in rows]


A_TABLE = [["error", "2", "–", "dB", "lower", "≤ 10", "yes"]]


@pytest.mark.parametrize(
    ("column", "text", "complaint"),
    [
        (0, "mistake", r"the rows are \['mistake'\], kept are \['error'\]"),
        (1, "4.2", "value 4.2, kept 1.9 to 2.1"),
        (1, "-0.2", "value -0.2, kept"),
        (3, "", "kept otherwise"),
        (4, "higher", "kept otherwise"),
        (5, "≤ 9.9", "bound 9.9, kept 10 to 10"),
    ],
)
def test_a_table_that_disagrees_is_found(column, text, complaint):
    runs = runs_of(1.9, 2.0, 2.1)
    assert not list(disagreements(A_TABLE, runs))
    table = [A_TABLE[0][:column] + [text] + A_TABLE[0][column + 1 :]]
    (found,) = disagreements(table, runs)
    assert re.search(complaint, found)


def test_a_quarter_of_the_way_to_the_bound_is_not_too_far():
    table = [["error", "3.9", "–", "dB", "lower", "≤ 10", "yes"]]
    assert not list(disagreements(table, runs_of(2.0, 2.0)))
    table[0][1] = "4.1"
    assert list(disagreements(table, runs_of(2.0, 2.0)))


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("about 3 min", True),
        ("about 1 min", False),  # two cores need 150 s
        ("about 6 min", False),  # the fastest run took 200 s
        ("under 30 s", False),
        ("about 5 minutes", True),
    ],
)
def test_a_stated_time_that_disagrees_is_found(text, is_right):
    runs = [{"seconds": 200, "processor_seconds": 300}, {"seconds": 900, "processor_seconds": 310}]
    assert (wrong_about_time(text, runs) is None) is is_right


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[33.0 dB](RESULTS.md#set5-x3-quick) and [1,234](../RESULTS.md#set5-x3-quick)", None),
        ("[a table](RESULTS.md#set5-x3-quick)", None),
        ("[33.1 dB](RESULTS.md#set5-x3-quick)", "33.1 does not stand in the table"),
        ("[7](RESULTS.md#set5-x3-quick)", "7 does not stand"),  # only in the text above it
        ("[33.0 dB](RESULTS.md#set5)", "no section set5"),
    ],
)
def test_a_wrong_citation_is_found(text, complaint):
    page = "# R\n\n## Set5: x3 (quick)\n\nin 7 s\n\n| a | 33.01 | 1,234 |\n\n## Other\n\n| 33.1 |\n"
    found = list(wrong_citations(text, page))
    assert len(found) == (complaint is not None)
    assert complaint is None or complaint in found[0]


# results.keep, and the page.


def test_kept_rows_come_back_in_the_page(shelf):
    rows = [a_row(33.0, 33.06), a_row(33.7, 33.66) | {"note": "VDSR's"}, a_row(1.0, None)]
    file = results.keep("test", title="Test", command="do this", rows=rows, steps=7)
    content = json.loads(file.read_text("utf-8"))
    assert file.name == "test_quick.json"
    assert content["rows"] == rows
    assert content["steps"] == 7
    page = (shelf / "RESULTS.md").read_text("utf-8")
    (shelf / "RESULTS.md").unlink()
    assert cli.main(["results"]) == 0
    assert (shelf / "RESULTS.md").read_text("utf-8") == page
    assert "## Test (quick)" in page
    assert "`do this`" in page
    assert "| PSNR | 33.00 | 30.39 | dB | ≥ 33.06 | **no** |  |" in page
    assert "| PSNR | 33.70 | 30.39 | dB | ≥ 33.66 | yes | VDSR's |" in page
    assert "| PSNR | 1.000 | 30.39 | dB | – | – |  |" in page


def test_lower_is_better_too(shelf):
    results.keep("test", title="T", command="c", rows=[a_row(2.0, 1.0, "lower")])
    assert "≤ 1.000 | **no**" in results.page()


def test_no_rows_are_refused(shelf):
    with pytest.raises(ValueError, match="expected at least one"):
        results.keep("test", title="T", command="c", rows=[])
    assert not (shelf / "results").exists()


def test_a_gpu_is_named(shelf, monkeypatch):
    found = [("processor", "P", ""), ("cores", "2", ""), ("GPU 0", "a fast one", "")]
    monkeypatch.setattr(results.machine, "report", lambda: found)
    file = results.keep("test", title="T", command="c", rows=[a_row(2.0, 1.0)])
    assert json.loads(file.read_text("utf-8"))["machine"].endswith(", a fast one")


# results.keep_chapter.

PARAMETERS = """
SEED = 0
DATASET = "photos"
STEPS = (3,)
"""
CHAPTER = """
from imagegen_tf import metrics
rows = [metrics.row("height", SEED + 1, better="higher", bound=1.5, baseline=0.5, unit="m")]
metrics.report("00_hills", rows, dataset="photos", seed=SEED)
"""
PASSED = SimpleNamespace(error=None, minutes=0.5, processor_minutes=0.8)
FAILED = SimpleNamespace(error="1 is not 2", minutes=0.5, processor_minutes=0.8)


@pytest.fixture
def chapter(shelf, monkeypatch):
    """A notebook whose measurements depend on the seed; the machine is not looked at."""
    monkeypatch.setattr(results, "machine_name", lambda: "a machine")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", shelf)
    cells = [
        nbformat.v4.new_markdown_cell("# 00 · Hills: how high"),
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(CHAPTER),
    ]
    path = shelf / "00_hills.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def measure(chapter, seed, value=2.0, dataset="photos", outcome=PASSED, **settings):
    """Write a metrics.json as a run does, and keep it."""
    content = {
        "chapter": chapter.stem,
        "profile": "quick",
        "dataset": dataset,
        "seed": seed,
        "trained_here": True,
        "steps": 3,
        "seconds": 20.0,
        "num_replicas": 1,
        "policy": "float32",
        "rows": [metrics.row("height", value, better="higher", bound=1.5)],
    }
    file = runtime.runs_folder() / chapter.stem / "metrics.json"
    runtime.write_text(file, json.dumps(content))
    executed = notebooks.prepare(chapter, {"SEED": seed} | settings)
    runtime.write_text(file.with_name(chapter.name), notebooks.as_text(executed))
    return results.keep_chapter(chapter, {"SEED": seed} | settings, outcome)


def seeds(file):
    return [run["seed"] for run in json.loads(file.read_text("utf-8"))["runs"]]


def test_run_keeps_each_seed_and_says_which_missed_a_bound(chapter, capsys):
    assert cli.main(["run", "--keep", "--seeds", "2", "0"]) == 1  # seed 0 misses
    assert "missed: height is 1" in capsys.readouterr().err
    page = results.PAGE.read_text("utf-8")
    assert "## 00 Hills: photos (quick)" in page
    assert "`python -m imagegen_tf run 00 --keep --seeds 0 2`" in page
    row = "| height | 2.000 | 1.000 to 3.000 | 0.5000 | m | ≥ 1.500 | **1 of 2** |"
    assert row in page
    (file,) = results.FOLDER.iterdir()
    (first, second) = json.loads(file.read_text("utf-8"))["runs"]
    assert (first["seed"], second["seed"]) == (0, 2)
    assert min(first["seconds"], first["processor_seconds"], first["training_seconds"]) > 0


def test_without_keep_nothing_is_kept(chapter):
    assert cli.main(["run", "--set", "SEED=2"]) == 0
    assert not results.FOLDER.exists()


def test_a_seed_takes_the_place_of_its_own_last_run(chapter):
    measure(chapter, 0, 5.0)
    measure(chapter, 1)
    file = measure(chapter, 0, 2.5)
    assert seeds(file) == [0, 1]
    assert "2.000 to 2.500" in results.page()
    assert "| 2 of 2 |" in results.page()


def test_runs_of_other_code_are_dropped(chapter):
    measure(chapter, 0)
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells[0].source += "\n\nOther words change nothing."
    nbformat.write(notebook, chapter)
    assert seeds(measure(chapter, 1)) == [0, 1]
    notebook.cells[2].source += "\n1 + 1"
    nbformat.write(notebook, chapter)
    assert seeds(measure(chapter, 2)) == [2]


def test_other_settings_go_to_another_file_and_no_path_is_kept(chapter):
    own = f"folder:{chapter.parent / 'cats'}"
    names = [
        measure(chapter, 0).name,
        measure(chapter, 0, dataset="letters", DATASET="letters").name,
        measure(chapter, 0, STEPS=(1, 2)).name,
        measure(chapter, 0, dataset=own, DATASET=own).name,
    ]
    assert names == [
        "00_hills_quick.json",
        "00_hills_quick_letters.json",
        "00_hills_quick_steps-1-2.json",
        "00_hills_quick_folder-cats.json",
    ]
    assert seeds(measure(chapter, 1, STEPS=(1, 2))) == [0, 1]
    kept = results.page() + (results.FOLDER / names[3]).read_text("utf-8")
    assert "cats" in kept and str(chapter.parent) not in kept
    assert "--seeds 0 --set DATASET=folder:cats`" in results.page()
    assert "--seeds 0 1 --set 'STEPS=[1, 2]'`" in results.page()


def test_a_run_that_failed_for_another_reason_than_a_bound_is_not_kept(chapter):
    assert measure(chapter, 0, outcome=FAILED) is None
    assert measure(chapter, 0, 1.0, outcome=FAILED) is not None  # it missed its bound
    assert "**0 of 1**" in results.page()


def test_an_old_measurement_is_not_taken_for_this_run(chapter):
    measure(chapter, 0)
    file = runtime.runs_folder() / chapter.stem / "metrics.json"
    os.utime(file, (time.time() - 3600,) * 2)
    assert results.keep_chapter(chapter, {"SEED": 1}, FAILED) is None
    with pytest.raises(ValueError, match="wrote no metrics.json"):
        results.keep_chapter(chapter, {"SEED": 1}, PASSED)


def test_what_other_code_measured_is_not_kept(chapter, monkeypatch):
    execute = notebooks._execute

    def edited_meanwhile(notebooks, *rest):
        text = chapter.read_text("utf-8")
        chapter.write_text(text.replace("bound=1.5", "bound=1.2"), "utf-8")
        return execute(notebooks, *rest)

    monkeypatch.setattr(notebooks, "_execute", edited_meanwhile)
    with pytest.warns(UserWarning, match="00_hills has other code now"):
        cli.main(["run", "--keep", "--seeds", "2"])
    assert not results.FOLDER.exists()
    cli.main(["run", "--keep", "--seeds", "2"])
    assert len(list(results.FOLDER.iterdir())) == 1


def test_the_overview_counts_bounds_and_adds_up_the_quick_minutes(chapter):
    other = chapter.with_name("01_lakes.ipynb")
    other.write_bytes(chapter.read_bytes())
    for one in (chapter, other):
        measure(one, 0)
        measure(one, 1, 1.0)
    measure(chapter, 0, dataset="letters", DATASET="letters")
    page = results.page()
    assert "2 chapters in quick, on their default data" in page
    assert "one after the other: 1 minutes." in page  # half a minute each
    assert page.count("| 00 Hills: photos | quick | 0.5 | 2 | 1 of 2 |") == 2
    assert "| 00 Hills: letters | quick | 0.5 | 1 | 1 of 1 |" in page


def test_what_is_not_finite_is_written_as_missed(chapter):
    measure(chapter, 0, "inf")
    assert "| height | inf | – | – |  | ≥ 1.500 | **0 of 1** |" in results.page()
