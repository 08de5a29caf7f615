"""results: what a run keeps and what it refuses, and RESULTS.md as the kept files say."""

import json
import os
import time
from types import SimpleNamespace

import nbformat
import pytest

from course import cli, notebooks, results
from imagegen_tf import metrics, runtime


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


def test_the_page_is_made_of_the_kept_files():
    assert results.PAGE.read_text("utf-8") == results.page(), "run: make results"


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
    monkeypatch.setattr(results.doctor, "examine", lambda: found)
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

    def edited_meanwhile(chapters, *rest):
        text = chapter.read_text("utf-8")
        chapter.write_text(text.replace("bound=1.5", "bound=1.2"), "utf-8")
        return execute(chapters, *rest)

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
