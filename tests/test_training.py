"""training: nothing lost, the same result whatever happens, and clear errors."""

import random
import signal
import subprocess
import sys
import time

import keras
import notebook_cells
import numpy as np
import processes
import pytest
import tensorflow as tf
import training_jobs
from processes import SECONDS, finish, gap, load, start, workers
from training_jobs import batches

from imagegen_tf import checkpoint, datasets, training

pytestmark = pytest.mark.usefixtures("float32")


def build(**settings):
    """The small GAN on one replica."""
    return training_jobs.build(tf.distribute.get_strategy(), **settings)


def weights_of(model):
    """All variables of a model as a list of arrays."""
    return list(training_jobs.values(model).values())


class At(keras.callbacks.Callback):
    """Do something when a record ends with this step."""

    def __init__(self, step, action):
        super().__init__()
        self.step, self.action = step, action

    def on_epoch_end(self, epoch, logs=None):
        if int(self.model.step.numpy()) == self.step:
            self.action(self.model)


def interrupt(model):
    """Act like the stop button."""
    raise KeyboardInterrupt


def stopped(folder, step=5, steps=20, model=None, **settings):
    """Train until somebody stops it."""
    with pytest.raises(KeyboardInterrupt):
        model = model or build()
        training.fit(model, batches(), steps, folder, callbacks=[At(step, interrupt)], **settings)


def samples():
    """Two grey pictures."""
    return np.full((2, 8, 8, 1), 0.5)


def test_an_interrupted_cell_goes_on_where_it_stopped(tmp_path, capsys):
    whole = build(adam=True, average={"generator": 0.9})
    expected = training.fit(whole, batches(), 30, tmp_path / "whole", samples=samples)
    for same_kernel in (True, False):
        model = build(adam=True, average={"generator": 0.9})
        stopped(tmp_path / "run", 17, 30, model, samples=samples)
        model = model if same_kernel else build(adam=True, average={"generator": 0.9})
        history = training.fit(model, batches(), 30, tmp_path / "run", samples=samples)
        assert "Going on from step 17" in capsys.readouterr().out
        assert gap(weights_of(whole), weights_of(model)) == 0
        assert history.steps == list(range(1, 31)) == expected.steps
        assert history.losses == expected.losses
        assert set(history.samples) == set(expected.samples)
        assert not (tmp_path / "run" / "checkpoint.npz").exists()


def test_stopped_after_the_last_step_nothing_is_trained_again(tmp_path, capsys):
    def stopping():
        if model.steps_done == 5:
            raise KeyboardInterrupt
        return samples()

    model, again = build(), build()
    with pytest.raises(KeyboardInterrupt):
        training.fit(model, batches(), 5, tmp_path, samples=stopping)
    history = training.fit(again, batches(), 5, tmp_path, samples=samples)
    assert "Going on from step 5" in capsys.readouterr().out
    assert again.steps_done == max(history.samples) == 5
    assert gap(weights_of(model), weights_of(again)) == 0


def test_training_again_goes_on_from_the_trained_weights(tmp_path):
    model, whole = build(), build()
    training.fit(model, batches(), 10, tmp_path / "a")
    history = training.fit(model, batches(), 5, tmp_path / "a")
    training.fit(whole, batches(), 15, tmp_path / "b")
    assert history.steps == [11, 12, 13, 14, 15] and history.first == 10
    assert gap(weights_of(whole), weights_of(model)) == 0
    assert np.isclose(history.images_per_second, 5 * 64 / history.seconds)


@pytest.mark.parametrize("change", [{"rate": 0.02}, {"average": {"generator": 0.9}}, {"data": 2}])
def test_a_checkpoint_of_another_training_is_put_aside(tmp_path, capsys, change):
    stopped(tmp_path)
    settings = {name: value for name, value in change.items() if name != "data"}
    data = batches(seed=change.get("data", 1))
    history = training.fit(build(**settings), data, 6, tmp_path)
    assert "is of another training; it now stands in checkpoint-other" in capsys.readouterr().out
    assert history.steps == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "checkpoint-other.npz").exists()


def test_settings_and_code_are_part_of_the_training(monkeypatch):
    cells, data = notebook_cells.load("04"), batches()

    def of_the_chapter(**settings):
        gan = cells.build_gan(tf.distribute.get_strategy(), 8, 28, 1, **settings)
        return checkpoint.fingerprint(gan, data)

    others = [{"seed": 1}, {"rates": (1e-3, 1e-4)}, {"width": 16}]
    kinds = [cells.SmoothedGAN, cells.PenalisedGAN]
    kinds += [type("Other", (cells.PenalisedGAN,), {"gamma": gamma}) for gamma in (0.2, 0.3)]
    others += [{"kind": kind} for kind in kinds]
    plain = of_the_chapter()
    assert of_the_chapter() == plain
    assert len({plain, *(of_the_chapter(**settings) for settings in others)}) == 1 + len(others)
    # A number beside the class, which train_step uses.
    before = checkpoint.fingerprint(build(), data)
    monkeypatch.setattr(training_jobs, "LATENT", 11)
    assert checkpoint.fingerprint(build(), data) != before


def test_an_error_in_a_callback_loses_nothing(tmp_path, capsys):
    def fail(model):
        raise OSError("no more")

    model, whole = build(), build()
    with pytest.raises(OSError, match="no more"):
        training.fit(model, batches(), 20, tmp_path, save_every=0, callbacks=[At(7, fail)])
    training.fit(model, batches(), 20, tmp_path)
    assert "Going on from step" in capsys.readouterr().out
    training.fit(whole, batches(), 20, tmp_path / "whole")
    assert gap(weights_of(whole), weights_of(model)) == 0


def test_a_callback_can_end_the_training(tmp_path):
    def enough(model):
        model.stop_training = True

    model = build()
    history = training.fit(model, batches(), 20, tmp_path, callbacks=[At(4, enough)])
    assert history.steps == [1, 2, 3, 4]
    assert not (tmp_path / "checkpoint.npz").exists()
    early = keras.callbacks.EarlyStopping("discriminator", patience=1, mode="max")
    assert len(training.fit(model, batches(), 9, tmp_path, callbacks=[early]).steps) < 9


@pytest.mark.parametrize("damage", ["cut", "bits", "empty", "text"])
def test_a_damaged_checkpoint_is_never_loaded(tmp_path, capsys, damage):
    path = tmp_path / "checkpoint.npz"
    training.fit(build(), batches(), 1, tmp_path, callbacks=[At(1, lambda _: None)])
    checkpoint.save(path, {"variable_0000": np.zeros(1000)}, {"first": 0})
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    damaged = {"bits": content, "cut": content[:2000], "empty": b"", "text": b"hello"}
    path.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match="checkpoint.npz is damaged"):
        checkpoint.load(path)
    assert training.fit(build(), batches(), 1, tmp_path).steps == [1]
    assert "is damaged" in capsys.readouterr().out


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.npz"
    assert checkpoint.load(path) is None
    checkpoint.save(path, {"a": np.arange(3)}, {"n": 1})

    def break_off(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", break_off)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(path, {"a": np.arange(4)}, {"n": 2})
    arrays, notes = checkpoint.load(path)
    assert (arrays["a"].tolist(), notes) == ([0, 1, 2], {"n": 1})
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.npz"]
    # What a killed process left is removed by the next training.
    (tmp_path / ".checkpoint-0123.npz").write_bytes(b"half")
    training.fit(build(), batches(), 1, tmp_path)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [("size=16k", "No space left on device"), ("ro", "Read-only file system")],
)
def test_a_full_disk_and_a_read_only_folder_are_named(tmp_path, options, reason):
    if sys.platform != "linux":
        return  # only Linux can mount a small disk for a test
    code = (
        'mount -t tmpfs -o "$0" none "$1" && "$2" "$3" train "$1/all" 5; '
        'status=$?; ls -A "$1" "$1"/all-run 2>/dev/null; exit $status'
    )
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", code, options, str(tmp_path)]
    command += [sys.executable, str(processes.SCRIPT)]
    environment = processes.environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert last.endswith(f"all-run/checkpoint.npz could not be written ({reason})")
    assert "npz" not in done.stdout  # no partial file


def test_a_loss_that_is_not_finite_stops_and_says_what_to_try(tmp_path):
    def divide(model, loss):
        return loss / tf.cast(model.step.value - 3, tf.float32)

    message = "'generator' is inf at step 4. Build the model anew; try a lower learn"
    with pytest.raises(FloatingPointError, match=message):
        training.fit(build(spoil=divide), batches(), 20, tmp_path)
    pictures = np.ones((640, 28, 28, 1), np.float32)
    pictures[100] = np.nan
    data = tf.data.Dataset.from_tensor_slices(pictures).batch(64, drop_remainder=True).repeat()
    with pytest.raises(FloatingPointError, match="look for NaN in the data"):
        training.fit(build(), data, 20, tmp_path / "data")


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    def destroy(model):
        model.generator.variables[0].assign(model.generator.variables[0] * np.inf)

    with pytest.raises(FloatingPointError):
        training.fit(build(), batches(), 9, tmp_path, save_every=0, callbacks=[At(5, destroy)])
    arrays, notes = checkpoint.load(tmp_path / "checkpoint.npz")
    assert notes["steps"] == [1, 2, 3, 4, 5]
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_wrong_data_are_refused(tmp_path):
    data = datasets.batches(training_jobs.pictures(), 64, repeat=False)
    with pytest.raises(ValueError, match="the data ended after 10 of 12 steps"):
        training.fit(build(), data, 12, tmp_path)
    with pytest.raises(ValueError, match="steps: expected at least 1, got 0"):
        training.fit(build(), data, 0, tmp_path)
    coloured = tf.data.Dataset.from_tensors(np.zeros((64, 28, 28, 3), np.uint8)).repeat()
    with pytest.raises(ValueError, match="28, 28, 3"):
        training.fit(build(), coloured, 2, tmp_path / "coloured")
    ragged = data.unbatch().batch(64)
    with pytest.raises(ValueError, match="drop_remainder=True"):
        training.fit(build(), ragged, 2, tmp_path / "ragged")


def test_an_internal_error_on_one_machine_is_not_told_as_another_machines(tmp_path, monkeypatch):
    def fail(model):
        raise tf.errors.InternalError(None, None, "Blas GEMM launch failed")

    with pytest.raises(tf.errors.InternalError):
        training.fit(build(), batches(), 2, tmp_path, callbacks=[At(1, fail)])
    monkeypatch.setattr(training.runtime, "worker", lambda: (0, 2))
    error = tf.errors.InternalError(None, None, "CUDA_ERROR_ILLEGAL_ADDRESS")
    assert not training._tells_of_another_machine(error)
    error = tf.errors.InternalError(None, None, "Collective ops is aborted by: Broken pipe")
    assert training._tells_of_another_machine(error)


def test_samples_outside_0_to_1_are_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\], got -1 to 1"):
        training.fit(build(), batches(), 5, tmp_path, samples=lambda: samples() * [-2, 2])
    assert not list(tmp_path.glob("*.npz"))  # or the next training would go on from this start


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_kept_outlives_a_start_that_fails(tmp_path, monkeypatch, capsys, error):
    def fail(*_):
        raise error

    stopped(tmp_path, steps=9)
    kept = (tmp_path / "checkpoint.npz").read_bytes()
    for place in ((checkpoint, "fingerprint"), (checkpoint.Checkpoint, "resume")):
        with monkeypatch.context() as patch:
            patch.setattr(*place, fail)
            with pytest.raises(error):
                training.fit(build(), batches(), 9, tmp_path)
        assert (tmp_path / "checkpoint.npz").read_bytes() == kept
    training.fit(build(), batches(), 9, tmp_path)
    assert "Going on from step 5" in capsys.readouterr().out


def test_evaluation_changes_nothing_and_gives_the_same_again(tmp_path):
    model = build(average={"generator": 0.9})
    training.fit(model, batches(), 3, tmp_path)
    before = weights_of(model)
    data = datasets.batches(training_jobs.pictures(), 64, repeat=False)
    first, second = training.evaluate(model, data), training.evaluate(model, data)
    assert first == second and set(first) == {"brightness"}
    assert gap(before, weights_of(model)) == 0
    with pytest.raises(ValueError, match="at least one batch"):
        training.evaluate(model, data.take(0))


def test_predict_goes_batch_by_batch():
    network = build().generator
    latents = np.random.default_rng(0).normal(size=(25, training_jobs.LATENT)).astype(np.float32)
    whole = training.predict(network, latents)
    assert whole.shape == (25, 28, 28, 1) and whole.dtype == np.float32
    assert np.allclose(whole, training.predict(network, latents, batch_size=7), atol=1e-6)
    with pytest.raises(ValueError, match="expected at least one, got none"):
        training.predict(network, latents[:0])


def test_killed_at_any_moment_training_ends_as_if_nothing_had_happened(tmp_path):
    whole = start("train", tmp_path / "whole", 120, "04")
    marks = tmp_path / "killed-steps-0"
    for _ in range(3):
        process = start("train", tmp_path / "killed", 120, "04")
        seen = marks.stat().st_size if marks.exists() else 0
        while process.poll() is None and (marks.stat().st_size if marks.exists() else 0) <= seen:
            time.sleep(0.01)
        time.sleep(random.uniform(0.2, 1.0))
        process.kill()
        printed, _ = process.communicate()
        if (tmp_path / "killed.npz").exists():
            break
    else:
        printed = finish(start("train", tmp_path / "killed", 120, "04"))
    assert "Going on from step" in printed
    finish(whole)
    assert gap(load(tmp_path / "whole.npz"), load(tmp_path / "killed.npz")) < 1e-6


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_dies_stops_the_other_and_both_resume(tmp_path, victim):
    both = workers("train", tmp_path, 120)
    marks = tmp_path / f"worker{victim}-steps-{victim}"
    while not marks.exists() or marks.stat().st_size < 30:
        assert all(process.poll() is None for process in both), both[0].stdout.read()
        time.sleep(0.05)
    both[victim].send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    began = time.monotonic()
    printed, _ = both[1 - victim].communicate(timeout=SECONDS)
    both[victim].communicate()
    assert time.monotonic() - began < 120
    assert both[1 - victim].returncode == 1
    assert "RuntimeError: Another machine stopped, or cannot be reached any more." in printed

    for process in workers("train", tmp_path, 120):
        assert "Going on from step" in finish(process)
    assert gap(load(tmp_path / "worker0.npz"), load(tmp_path / "worker1.npz")) == 0
