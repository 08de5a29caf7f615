"""Training in processes of their own: on two replicas, on two machines, and killed.

Expected numbers come from equality: one replica, two replicas and two processes draw the same noise
and see the same pictures, so that after 20 steps of SGD only rounding may tell them apart.
"""

import json
import random
import signal
import time

import numpy as np
import pytest
import tensorflow as tf
import training_jobs
from processes import SECONDS, finish, gap, load, start, workers

POLICIES = training_jobs.POLICIES


@pytest.fixture(scope="module")
def three_ways(tmp_path_factory):
    """Train in one replica, in two, and in two processes; give the folder of the results."""
    folder = tmp_path_factory.mktemp("three")
    alone = [
        start("precisions", folder / "one"),
        start("precisions", folder / "two", IMAGEGEN_CPU_REPLICAS="2"),
    ]
    for process in alone:
        finish(process)
    for process in workers("precisions", folder):
        assert "This is worker" in finish(process)
    return folder


@pytest.mark.parametrize("other", ["two", "worker0", "worker1"])
@pytest.mark.parametrize("model", ["float32", "05"])
def test_float32_weights_do_not_depend_on_the_number_of_replicas(three_ways, model, other):
    one = load(three_ways / f"one-{model}.npz")
    assert gap(one, load(three_ways / f"{other}-{model}.npz")) < 1e-5


@pytest.mark.parametrize("other", ["two", "worker0", "worker1"])
def test_the_gan_that_is_taught_does_not_depend_on_the_number_of_replicas(three_ways, other):
    # It has many activations a step. The kink of ReLU lies within rounding of one or two of
    # them, which moves the gradients of biases, still near 0, by a few thousandths of themselves.
    # So the bound here is a share of the largest weight of all, not of each bias.
    pairs = zip(load(three_ways / "one-04.npz"), load(three_ways / f"{other}-04.npz"), strict=True)
    gaps, sizes = zip(*((np.abs(a - b).max(), np.abs(a).max()) for a, b in pairs), strict=True)
    assert np.max(gaps) < 1e-5 * np.max(sizes[1:])  # the first is the step's number


@pytest.mark.parametrize("other", ["two", "worker0", "worker1"])
@pytest.mark.parametrize("policy", POLICIES)
def test_losses_shown_do_not_depend_on_the_number_of_replicas(three_ways, policy, other):
    one = json.loads((three_ways / f"one-{policy}.json").read_text())
    two = json.loads((three_ways / f"{other}-{policy}.json").read_text())
    assert len(one["generator"]) == 20
    bound = 1e-5 if policy == "float32" else 0.02
    for name in one:
        assert np.allclose(one[name], two[name], rtol=bound, atol=0)


def test_two_processes_end_with_the_same_weights_and_only_the_chief_writes(three_ways):
    for policy in POLICIES:
        mine, theirs = (load(three_ways / f"worker{i}-{policy}.npz") for i in range(2))
        assert gap(mine, theirs) == 0
    assert (three_ways / "worker0-run").exists()
    assert not (three_ways / "worker1-run").exists()


def test_an_infinity_on_replica_1_skips_the_step_everywhere(tmp_path):
    finish(start("overflow", tmp_path / "two", IMAGEGEN_CPU_REPLICAS="2"))
    before, planted, after = (
        load(tmp_path / f"two-{name}.npz") for name in ("before", "planted", "after")
    )
    scales = json.loads((tmp_path / "two.json").read_text())
    # The discriminator, without the infinity, keeps its scale; the generator's is halved.
    assert scales == [[2**15, 2**15], [2**14, 2**15], [2**14, 2**15]]
    # BatchNormalization's moving averages move in any case; kernels and biases do not.
    strategy = tf.distribute.get_strategy()
    names = [variable.path for variable in training_jobs.build(strategy).generator.variables]
    trained = [i for i, name in enumerate(names) if "moving" not in name]
    assert len(trained) < len(names)
    assert gap([before[i] for i in trained], [planted[i] for i in trained]) == 0
    assert gap([before[i] for i in trained], [after[i] for i in trained]) > 0
    assert all(np.isfinite(array).all() for array in load(tmp_path / "two-state.npz"))


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_dies_stops_the_other_and_both_resume(tmp_path, victim):
    processes = workers("train", tmp_path, 120)
    marks = tmp_path / f"worker{victim}-steps-{victim}"
    while not marks.exists() or marks.stat().st_size < 30:
        assert all(process.poll() is None for process in processes), processes[0].stdout.read()
        time.sleep(0.05)
    processes[victim].send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    began = time.monotonic()
    printed, _ = processes[1 - victim].communicate(timeout=SECONDS)
    processes[victim].communicate()
    assert time.monotonic() - began < 120
    assert processes[1 - victim].returncode == 1
    assert "RuntimeError: Another machine stopped, or cannot be reached any more." in printed

    for process in workers("train", tmp_path, 120):
        assert "Going on from step" in finish(process)
    assert gap(load(tmp_path / "worker0.npz"), load(tmp_path / "worker1.npz")) == 0


@pytest.mark.parametrize("chapter", ["04", "05"])
def test_killed_at_any_moment_training_ends_as_if_nothing_had_happened(tmp_path, chapter):
    whole = start("train", tmp_path / "whole", 120, chapter)
    marks = tmp_path / "killed-steps-0"
    for _ in range(3):
        process = start("train", tmp_path / "killed", 120, chapter)
        seen = marks.stat().st_size if marks.exists() else 0
        while process.poll() is None and (marks.stat().st_size if marks.exists() else 0) <= seen:
            time.sleep(0.01)
        time.sleep(random.uniform(0.2, 1.0))
        process.kill()
        printed, _ = process.communicate()
        if (tmp_path / "killed.npz").exists():
            break
    else:
        printed = finish(start("train", tmp_path / "killed", 120, chapter))
    assert "Going on from step" in printed
    finish(whole)
    assert gap(load(tmp_path / "whole.npz"), load(tmp_path / "killed.npz")) < 1e-6
