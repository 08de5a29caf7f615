"""Whole chapters, executed with other parameters than those that nbval takes.

Trainings are cut short here, so what a short training cannot reach is named below; every other
bound of a chapter has to hold.
"""

import json

import numpy as np
import pytest
from PIL import Image

from course import notebooks, parameters
from imagegen_tf import metrics

# What shipped networks do not spare: experiments, cut to a few steps, and the rows they lead to.
SHORT = {
    "04": {"EXPERIMENT_STEPS": 4},
    "05": {"EXPERIMENT_STEPS": 8, "COLLAPSE_STEPS": 8},
    "06": {"EXPERIMENT_STEPS": 8, "PATCHES": 1_000},
    "07": {"EXPERIMENT_STEPS": 4, "PRIOR_STEPS": 8, "PATCHES": 200, "CROPS": 2},
    "08": {"ITERATIONS": 40, "EXPERIMENT_ITERATIONS": 4},
    "09": {"TEST": 200, "UNSEEN": 100},
    "10": {"EXPERIMENT_STEPS": 4, "TOY_STEPS": 300},
    "11": {"SCENES": 2_000, "JUDGED": 200, "FEWER": 40, "TRIES": 2},
}
OF_EXPERIMENTS = {
    "05": ["collapse: nats at the right price", "collapse: nats after warm-up"],
    "07": ["deep image prior", "prior beside biharmonic"],
    "08": ["style loss, reduction", "one pass: speed"],
    "11": ["drawings made: the one kept"],
}


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Give a function that runs a chapter with settings: its Outcome and its metrics.json."""
    for name in notebooks.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path / "runs"))

    def function(number, **settings):
        (path,) = notebooks.chapters([number])
        (outcome,) = notebooks.run([path], settings)
        file = tmp_path / "runs" / path.stem / "metrics.json"
        assert file.exists(), outcome.error
        return outcome, json.loads(file.read_text("utf-8"))

    return function


def test_every_chapter_that_can_be_spared_training_is_here():
    known = {
        path.stem[:2]: parameters.names(notebooks.prepare(path, {}))
        for path in notebooks.chapters()
    }
    assert [number for number, names in known.items() if "TRAIN" in names] == list(SHORT)


@pytest.mark.parametrize("number", SHORT)
def test_shipped_networks_take_the_place_of_training(execute, number):
    outcome, content = execute(number, TRAIN=False, **SHORT[number])
    missed = [row["name"] for row in content["rows"] if not metrics.is_met(row)]
    assert set(missed) <= set(OF_EXPERIMENTS.get(number, ())), outcome.error
    assert content["trained_here"] is False
    assert outcome.error is None or "AssertionError: missed: " in outcome.error


FEW = {"STEPS": 20, "EXPERIMENT_STEPS": 4, "TOY_STEPS": 40, "FEWER": 30}


def test_a_chapter_runs_on_two_replicas(execute, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_CPU_REPLICAS", "2")
    outcome, content = execute("10", SAMPLES=150, **FEW)
    assert (content["num_replicas"], content["steps"]) == (2, 20)
    assert outcome.error is None or "AssertionError: missed: " in outcome.error


def test_a_chapter_runs_on_pictures_of_ones_own(execute, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(60):
        height, width = rng.integers(20, 60, 2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).convert(("L", "RGB", "RGBA", "P")[number % 4])
        (tmp_path / "pets" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        ending = "jpg" if number % 4 < 2 else "png"
        picture.save(tmp_path / "pets" / "ab"[number % 2] / f"{number}.{ending}")
    own = f"folder:{tmp_path / 'pets'}"
    outcome, content = execute("10", DATASET=own, BATCH=8, SAMPLES=40, **FEW)
    assert (content["dataset"], content["trained_here"]) == (own, True)
    assert outcome.error is None or "AssertionError: missed: " in outcome.error
