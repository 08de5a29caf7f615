"""Chapter 13: the cost model by hand, processes that end, the same steps in another process."""

import builtins
import dis
import json
import os
import time

import keras
import notebook_cells
import numpy as np
import psutil
import pytest
import tensorflow as tf
from keras import layers

from course import notebooks
from imagegen_tf import datasets, runtime, training
from imagegen_tf.datasets import glyphs


@pytest.fixture(scope="module")
def chapter():
    """The cells that are taught."""
    return notebook_cells.load("13")


@pytest.fixture
def folder(tmp_path):
    """A folder with a name that is hard to pass on."""
    path = tmp_path / "zwei Wörter"
    path.mkdir()
    return path


def strategy():
    """One replica."""
    return tf.distribute.get_strategy()


# The cost model


def test_the_ring_by_hand(chapter):
    # Two members: there and back, half of 8 bytes at 4 bytes/s each time, 1 s of latency each.
    assert chapter.ring(2, 8, 4, 1) == 2 * (1 + 1)
    # Four: 3 moves to sum, 3 to hand out, a quarter of the bytes in each.
    assert chapter.ring(4, 8, 4, 1) == 6 * (1 + 0.5)
    assert chapter.ring(1, 8, 4, 1) == 0


@pytest.mark.parametrize("members", [2, 8, 1000])
def test_no_member_of_a_ring_sends_its_message_more_than_twice(chapter, members):
    # Patarasuk and Yuan, 2009: 2 (n - 1) / n of the message is the least that is possible.
    sent = chapter.ring(members, 1.0, 1.0, 0.0)
    assert sent == pytest.approx(2 * (members - 1) / members)


def test_several_machines_have_two_rings(chapter):
    machine = chapter.Machine(1.0, devices=8, link=4.0, network=2.0, latency=1.0)
    assert chapter.all_reduce(4, 8, machine) == chapter.ring(4, 8, 4.0, 1.0)
    between = chapter.ring(2, 1, 2.0, 1.0)  # each device with its own eighth
    assert chapter.all_reduce(16, 8, machine) == chapter.ring(8, 8, 4.0, 1.0) + between


def test_a_step_takes_its_longest_part(chapter):
    machine = chapter.Machine(10.0, devices=2, link=1.0, latency=0.0, overhead=1.0)
    assert chapter.step_seconds(1, 4, 5.0, 6.0, machine) == 1 + 4 * 5 / 10
    # Two devices: half the images each, and 2 (n - 1) / n of 6 bytes at 1 byte/s.
    assert chapter.step_seconds(2, 4, 5.0, 6.0, machine) == 1 + 1 + 6
    assert chapter.step_seconds(2, 4, 5.0, 6.0, machine, hidden=0.5) == 2 + 5
    assert chapter.step_seconds(2, 4, 5.0, 6.0, machine, hidden=9) == 2
    slow = chapter.replace(machine, feed=0.1)
    assert chapter.step_seconds(2, 4, 5.0, 6.0, slow) == 40
    # A second machine feeds half of the batch.
    assert chapter.step_seconds(4, 4, 5.0, 0.0, slow) == 20


def test_the_plan_is_never_better_than_ideal(chapter):
    for batch_of in (lambda n: 64 * n, lambda n: 1_024):
        rate = chapter.images_per_second(chapter.COUNTS, batch_of, 1e9, 1e6, chapter.GPUS)
        assert np.all(rate > 0)
        assert np.all(rate <= rate[0] * chapter.COUNTS * (1 + 1e-9))


def test_operations_of_two_layers_by_hand(chapter):
    network = keras.Sequential(
        [
            keras.Input((28, 28, 3)),
            layers.Conv2D(16, 4, 2, "same", use_bias=False),
            layers.Conv2DTranspose(8, 4, 2, "same", use_bias=False),
        ]
    )
    by_hand = 2 * 4 * 4 * 3 * 16 * 14 * 14 + 2 * 4 * 4 * 16 * 8 * 14 * 14
    assert chapter.count_flops(network, network.input_shape) == by_hand


def test_the_noise_scale_of_known_gradients(chapter):
    # Gradient 1 and variance 9 for each of 2,000 weights: 9 pictures. A mean of 4 has 9 / 4.
    parts = np.random.default_rng(0).normal(1, 1.5, (300, 2_000))
    assert chapter.noise_scale(parts, 4) == pytest.approx(9, rel=0.03)


# Precision


def test_precision_comes_back_after_an_error(chapter, float32):
    with pytest.raises(KeyError), chapter.precision("mixed_float16"):
        assert keras.config.dtype_policy().name == "mixed_float16"
        raise KeyError
    assert keras.config.dtype_policy().name == "float32"


def test_a_step_is_skipped_where_the_scale_is_halved_and_nowhere_else(chapter, float32):
    pictures, _ = glyphs.draw("01", 16, rng=0)
    data = datasets.batches(datasets.Dataset("digits", "train", pictures), 4)
    with chapter.precision("mixed_float16"):
        model = chapter.build_model(strategy(), 28, 1)
        model.optimizers["network"].dynamic_scale.assign(2.0**32)
        model.optimizers["network"].dynamic_growth_steps = 3
        _, scales, moved = chapter.film(model, data, 24)
    ratios = scales / np.append(2.0**32, scales[:-1])
    assert np.array_equal(ratios == 0.5, ~moved)
    assert 0 < moved.sum() < 24
    assert set(ratios) == {0.5, 1.0, 2.0}


# Processes


def write(chapter, folder, *calls):
    """A program of all cells that are taught, followed by calls."""
    path = folder / "program.py"
    (notebook,) = notebooks.chapters(["13"])
    cells = [
        cell["source"]
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code" and "model" in cell["metadata"].get("tags", [])
    ]
    runtime.write_text(path, "\n\n".join([chapter.HEAD, *("".join(one) for one in cells), *calls]))
    return str(path)


def plain(folder, text):
    """A program without TensorFlow."""
    path = folder / "plain.py"
    runtime.write_text(path, text)
    return str(path)


def test_no_process_outlives_its_block(chapter, folder):
    program, found = plain(folder, "import time\ntime.sleep(600)"), []
    tasks = {name: {"folder": str(folder)} for name in ("a", "b")}
    with pytest.raises(KeyboardInterrupt), chapter.processes(program, tasks, [{}, {}]) as started:
        found += started.values()
        assert all(psutil.pid_exists(one.pid) for one in found)
        raise KeyboardInterrupt
    assert len(found) == 2 and all(one.poll() is not None for one in found)


def test_a_process_leaves_with_its_parent(chapter, folder):
    head = chapter.HEAD.partition("task = ")[0]
    program = plain(folder, f"{head}\nprint('step 1', flush=True)\ntime.sleep(600)")
    with chapter.processes(program, {"a": {"folder": str(folder)}}, [{}]) as started:
        chapter.watch(started, 60, lambda: chapter.lines_of(started["a"]))
        started["a"].stdin.close()  # what the system does when the parent dies
        assert started["a"].wait(60) == 1


def test_watching_ends_after_a_while(chapter, folder, capsys):
    program = plain(folder, "print('step 3', flush=True)\nimport time\ntime.sleep(600)")
    began = time.monotonic()
    with chapter.processes(program, {"a": {"folder": str(folder)}}, [{}]) as started:
        with pytest.raises(TimeoutError, match="a: not done after 2 s"):
            chapter.finish(started, 2)
    assert time.monotonic() - began < 30
    assert "a: step 3" in capsys.readouterr().out


def test_a_failure_is_shown_with_its_last_words(chapter, folder):
    program = plain(folder, "print('héllo')\nraise ValueError('no pictures')")
    with chapter.processes(program, {"a": {"folder": str(folder)}}, [{}]) as started:
        with pytest.raises(RuntimeError, match="(?s)a failed.*ValueError: no pictures"):
            chapter.finish(started, 60)


def test_a_process_gets_its_task_core_and_settings(chapter, folder):
    words = "import json, os, sys\nprint('step', json.loads(sys.argv[1]), os.environ['WORD'])"
    tasks = {name: {"folder": str(folder), "name": name} for name in ("a", "b")}
    settings = [{"WORD": "one"}, {"WORD": "zwei"}]
    with chapter.processes(plain(folder, words), tasks, settings) as started:
        chapter.finish(started, 60)
        said = [chapter.lines_of(one)[0] for one in started.values()]
    assert said[0].endswith("one") and said[1].endswith("zwei")
    assert "'name': 'a'" in said[0] and "'name': 'b'" in said[1]
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        for number, line in enumerate(said):
            assert f"'core': {cores[number % len(cores)]}" in line


def test_workers_get_addresses_of_this_machine_only(chapter, monkeypatch):
    configs = chapter.cluster(2)
    for index, config in enumerate(configs):
        monkeypatch.setenv("TF_CONFIG", config["TF_CONFIG"])
        assert runtime.worker() == (index, 2)
    addresses = json.loads(configs[0]["TF_CONFIG"])["cluster"]["worker"]
    assert len(set(addresses)) == 2
    assert all(one.startswith("127.0.0.1:") for one in addresses)


def test_two_devices_in_another_process_train_as_one_does_here(chapter, folder, float32):
    pictures, _ = glyphs.draw("0123", 64, rng=0)
    np.save(folder / "pictures.npy", pictures)
    task = {"folder": str(folder), "name": "two", "batch": 16, "seed": 3, "steps": 6, "say": 2}
    program = write(chapter, folder, "train(run, task)")
    with chapter.processes(program, {"two": task}, [{"IMAGEGEN_CPU_REPLICAS": "2"}]) as started:
        chapter.finish(started, 300)
        assert "step 6" in chapter.lines_of(started["two"])
    model = chapter.build_model(strategy(), 28, 1, 3)
    data = datasets.batches(datasets.Dataset("digits", "train", pictures), 16, seed=3)
    here = training.fit(model, data, 6, folder / "here").losses["loss"]
    with np.load(folder / "two" / "result.npz") as there:
        assert np.abs(there["loss"] - here).max() < 1e-5
    assert here[-1] < here[0]


def names_used(code):
    """The global names that a function and those inside it use."""
    own = {
        one.argval
        for one in dis.get_instructions(code)
        if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    inner = [one for one in code.co_consts if hasattr(one, "co_code")]
    return own.union(*map(names_used, inner))


@pytest.mark.parametrize(
    "job", [("train",), ("faults",), ("stepper", "reducer", "mean_time", "speed")]
)
def test_a_program_needs_only_its_head_and_its_own_cells(chapter, job):
    # In the notebook all names are there; in the other process only what was written for it.
    head = compile(chapter.HEAD, "head", "exec")
    given = {one.argval for one in dis.get_instructions(head) if one.opname == "STORE_NAME"}
    functions = [getattr(chapter, name) for name in ("build_network", "build_model", *job)]
    functions.append(chapter.Denoiser.train_step)
    given |= {one.__name__ for one in functions} | {"Denoiser"} | set(dir(builtins))
    for function in functions:
        assert names_used(function.__code__) <= given
