"""The benchmarks' own machinery: rows, the JSON, and what a comparison says. Nothing is timed."""

import importlib
import json
import types

import numpy as np
import pytest

from course import results
from tests.benchmarks import __main__, comparison, startup, timing


def a_row(ratio, lowest=None, highest=None, name="sum", **more):
    spread = None if lowest is None else (lowest, highest)
    return timing.row(name, "plain loop", ratio, spread=spread, **more)


def a_table(*rows):
    made = {"command": "c", "date": "2026-01-01", "machine": "m", "profile": "quick"}
    more = {"policy": "float32", "title": "Benchmarks", "text": "Ratios."}
    return {"schema": comparison.SCHEMA, "ratios": list(rows)} | made | more


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Let the parts give made-up rows; give main and the folder of runs."""
    rows = {"pixels": [a_row(4.0, 3.9, 4.1, bound=3)], "flow": [a_row(0.5, name="slow")]}

    def load(name):
        part = name.rpartition(".")[2]
        return types.SimpleNamespace(measure=lambda: rows.get(part, []))

    lines = [("precision", "float32: why", ""), ("processor", "P", ""), ("cores", "2", "")]
    monkeypatch.setattr(comparison.doctor, "examine", lambda: lines)
    monkeypatch.setattr(__main__.importlib, "import_module", load)
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(results, "PAGE", tmp_path / "RESULTS.md")
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path))
    monkeypatch.setenv("IMAGEGEN_PROFILE", "quick")
    return types.SimpleNamespace(main=__main__.main, rows=rows, folder=tmp_path)


# Rows.


@pytest.mark.parametrize(
    ("ratio", "better", "met"),
    [(3.0, "higher", True), (2.9999, "higher", False), (3.1, "lower", False), (2.0, "lower", True)],
)
def test_a_row_knows_whether_it_met_its_bound(ratio, better, met):
    assert a_row(ratio, bound=3, better=better)["met"] is met
    assert a_row(ratio, better=better)["met"] is True


def test_a_ratio_is_of_medians_and_its_spread_of_the_turns():
    pairs = [(1, 4), (2, 6), (1, 9)]  # seconds of ours and of the baseline
    row = timing.from_pairs("sum", "plain loop", pairs)
    assert (row["ratio"], row["lowest"], row["highest"]) == (6, 3, 9)
    row = timing.from_pairs("import", "plain", pairs, inverse=True, bound=0.1)
    assert (row["ratio"], row["lowest"], row["highest"]) == (0.1667, 0.1111, 0.3333)
    assert (row["better"], row["met"]) == ("lower", False)


def test_work_is_taken_into_account(monkeypatch):
    monkeypatch.setattr(timing, "LEAST", 0)
    took = {"ours": 2.0, "theirs": 3.0}
    monkeypatch.setattr(timing, "seconds", lambda function, count=1: count * took[function()])
    row = timing.compare(
        *("draw", lambda: "ours", "loop", lambda: "theirs"), work=(10, 5), unit="images"
    )
    assert row["ratio"] == 3  # 5 and 1.667 a second
    assert row["note"] == "5 and 1.67 images/s"
    assert row["lowest"] == row["highest"] == 3


@pytest.mark.parametrize("took, count", [(0.1, 3), (5.0, 1), (1e-9, 1_000)])
def test_fast_functions_are_called_more_often(monkeypatch, took, count):
    monkeypatch.setattr(timing, "seconds", lambda function: took)
    assert timing.calls(None) == count


def test_both_train_for_the_same_time():
    counts = timing.in_turns(0.05, lambda: None, lambda: np.ones(1))
    assert min(counts) > 10


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": ""}, "name and baseline must not be empty"),
        ({"baseline": ""}, "name and baseline must not be empty"),
        ({"ratio": float("nan")}, "expected a ratio above 0, got nan"),
        ({"ratio": None}, "ratio is None"),
        ({"met": 1}, "met is 1"),
        ({"more": 1}, "expected the fields name, baseline, ratio"),
    ],
)
def test_a_row_without_name_baseline_or_ratio_is_refused(change, complaint):
    comparison.check(a_row(2.0))
    with pytest.raises(ValueError, match=complaint):
        comparison.check(a_row(2.0) | change)


@pytest.mark.parametrize("part", [*__main__.FAST, *__main__.LONG])
def test_every_part_can_be_measured(part):
    file = comparison.runtime.repository() / "tests" / "benchmarks" / f"{part}.py"
    assert "def measure():" in file.read_text("utf-8")


def test_the_modules_that_chapters_import_are_found():
    modules = startup.modules_of(startup.FIRST)
    assert {"images", "compositing", "metrics", "runtime"} <= set(modules)
    assert "machine" not in modules
    assert all(importlib.util.find_spec(f"imagegen_tf.{module}") for module in modules)


# The JSON.


def test_what_was_written_is_read(tmp_path):
    table = a_table(a_row(2.0, 1.9, 2.1), a_row(3.0, name="other", bound=1, note="why"))
    comparison.write(tmp_path / "a.json", table)
    assert comparison.read(tmp_path / "a.json") == table


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is no JSON"),
        ("[]", "schema None, expected"),
        ('[{"name": "sum", "ratio": 2}]', "schema None, expected"),  # as they were before
        (json.dumps(a_table(a_row(1.0)) | {"schema": "else 2"}), "schema 'else 2', expected"),
        (json.dumps(a_table()), "has no row"),
        (json.dumps(a_table({"name": "sum"})), "row 1: expected the fields"),
    ],
)
def test_another_file_is_refused(tmp_path, text, complaint):
    file = tmp_path / "old.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        comparison.read(file)


# The comparison.


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (a_row(2.0, 1.8, 2.2), a_row(3.0, 2.9, 3.1), "2       3  +50% BETTER"),
        (a_row(3.0, 2.9, 3.1), a_row(2.0, 1.8, 2.2), "3       2  -33% WORSE"),
        (a_row(3.0, 1.9, 3.1), a_row(2.0, 1.8, 2.2), "3       2  -33%"),  # old ranged over it
        (a_row(3.0, 2.9, 3.1), a_row(2.0, 1.8, 3.3), "3       2  -33%"),  # so did the new one
        (a_row(2.0), a_row(3.0), "2       3  +50% (noise not known)"),
        (
            a_row(2.0, 1.8, 2.2, better="lower"),
            a_row(3.0, 2.9, 3.1, better="lower"),
            "2       3  +50% WORSE",
        ),
    ],
)
def test_a_change_larger_than_the_noise_is_marked(old, new, said):
    line = comparison.changes(a_table(old), a_table(new))[3]
    assert line.startswith("sum ")
    assert line.endswith(said)


def test_rows_of_one_side_only_are_named():
    old = a_table(a_row(1.0, name="gone"), a_row(2.0, name="kept"))
    new = a_table(a_row(2.0, name="kept"), a_row(3.0, name="more"))
    kept, more, gone = comparison.changes(old, new)[3:]
    assert kept.startswith("kept") and "+0%" in kept
    assert more.startswith("more") and more.endswith("3  new")
    assert gone == "not measured now: gone x plain loop"


# The command.


def test_the_table_is_printed_and_written(bench, capsys):
    assert bench.main([]) == 0
    out = capsys.readouterr().out
    assert out == (bench.folder / "benchmarks.txt").read_text("utf-8")
    assert "4 x plain loop" in out and "(3.9 to 4.1)" in out and "≥ 3" in out
    kept = comparison.read(bench.folder / "benchmarks.json")
    assert kept["ratios"] == [bench.rows["pixels"][0], bench.rows["flow"][0]]
    assert (kept["policy"], kept["command"]) == ("float32", "python -m tests.benchmarks")
    assert not results.FOLDER.exists()


def test_fast_leaves_the_long_ones_out(bench):
    assert bench.main(["--fast"]) == 0
    kept = comparison.read(bench.folder / "benchmarks.json")
    assert [row["name"] for row in kept["ratios"]] == ["sum"]
    assert kept["command"] == "python -m tests.benchmarks --fast"


def test_a_missed_bound_is_said_and_ends_with_1(bench, capsys):
    bench.rows["pixels"] = [a_row(2.0, bound=3)]
    assert bench.main(["pixels"]) == 1
    assert "MISSED" in capsys.readouterr().out


def test_an_earlier_run_is_compared_even_if_it_is_overwritten(bench, capsys):
    bench.main(["pixels"])
    bench.rows["pixels"] = [a_row(8.0, 7.9, 8.1)]
    assert bench.main(["pixels", "--base", str(bench.folder / "benchmarks.json")]) == 0
    assert "+100% BETTER" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--base", "nowhere.json"], "there is no file nowhere.json"),
        (["walk"], "unknown: walk; expected some of startup, pixels"),
    ],
)
def test_wrong_arguments_end_before_anything_is_measured(bench, words, sentence, capsys):
    with pytest.raises(SystemExit) as exit:
        bench.main(words)
    assert exit.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (bench.folder / "benchmarks.json").exists()


def test_kept_ratios_stand_in_the_results(bench):
    assert bench.main(["--keep"]) == 0
    assert (bench.folder / "results" / "benchmarks_quick.json").exists()
    page = results.PAGE.read_text("utf-8")
    assert "## Benchmarks (quick)" in page
    assert "| sum | 4.000 | 3.900 to 4.100 | plain loop | ≥ 3.000 | yes |  |" in page
    assert "| slow | 0.5000 | – | plain loop | – | – |  |" in page


def test_tutorials_compute_in_float32_where_the_course_does_not():
    import keras

    from tests.benchmarks import tutorials

    policy, pictures = keras.config.dtype_policy(), np.zeros((256, 28, 28, 1), np.uint8)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        _, generator = tutorials.dcgan(pictures)
        step, encoder, decoder = tutorials.cvae(pictures, 2)
        step()
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(policy)
    for network in (generator, encoder, decoder):
        assert {layer.compute_dtype for layer in network.layers} == {"float32"}
