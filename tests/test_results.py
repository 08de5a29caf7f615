"""results: what is kept, and that RESULTS.md is what the kept files say."""

import json

import pytest

from imagegen_tf import __main__, metrics, results


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Give an empty folder of results, and a page beside it."""
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(results, "PAGE", tmp_path / "RESULTS.md")
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
    assert __main__.main(["results"]) == 0
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
