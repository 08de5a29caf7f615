"""training: nothing lost, the same result whatever happens, and clear errors."""

import os
import subprocess
import sys

import keras
import notebook_cells
import numpy as np
import processes
import pytest
import tensorflow as tf
import training_jobs
from processes import finish, gap, load, start

from imagegen_tf import checkpoints, datasets, fingerprints, runtime, training

pytestmark = pytest.mark.usefixtures("float32")


def batches(seed=1):
    """An endless data set of 640 small pictures."""
    return datasets.batches(training_jobs.pictures(), training_jobs.BATCH, seed=seed)


def build(**settings):
    """The small GAN on one replica."""
    return training_jobs.build(tf.distribute.get_strategy(), **settings)


def weights_of(model):
    """All variables of a model as a list of arrays."""
    return list(training_jobs.values(model).values())


def interrupt_at(step):
    """A callback that acts like the stop button."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if int(self.model.step.numpy()) == step:
                raise KeyboardInterrupt

    return Stop()


def samples():
    """Two grey pictures."""
    return np.full((2, 8, 8, 1), 0.5)


def test_an_interrupted_cell_goes_on_where_it_stopped(tmp_path, capsys):
    whole = build(adam=True, average={"generator": 0.9})
    expected = training.fit(whole, batches(), 30, tmp_path / "whole", samples=samples)
    for same_kernel in (True, False):
        model = build(adam=True, average={"generator": 0.9})
        with pytest.raises(KeyboardInterrupt):
            training.fit(
                model,
                batches(),
                30,
                tmp_path / "run",
                samples=samples,
                callbacks=[interrupt_at(17)],
            )
        model = model if same_kernel else build(adam=True, average={"generator": 0.9})
        capsys.readouterr()
        history = training.fit(model, batches(), 30, tmp_path / "run", samples=samples)
        assert "Going on from step 17" in capsys.readouterr().out
        assert gap(weights_of(whole), weights_of(model)) == 0
        assert history.steps == list(range(1, 31)) == expected.steps
        assert history.losses == expected.losses
        assert set(history.samples) == set(expected.samples)
        assert not (tmp_path / "run" / "checkpoint.npz").exists()


def test_training_again_goes_on_from_the_trained_weights(tmp_path):
    model, whole = build(), build()
    training.fit(model, batches(), 10, tmp_path / "a")
    history = training.fit(model, batches(), 5, tmp_path / "a")
    training.fit(whole, batches(), 15, tmp_path / "b")
    assert history.steps == [11, 12, 13, 14, 15]
    assert gap(weights_of(whole), weights_of(model)) == 0
    assert history.first == 10
    assert np.isclose(history.images_per_second, 5 * 64 / history.seconds)


@pytest.mark.parametrize(
    "change",
    [{}, {"seed": 4}, {"rate": 0.02}, {"adam": True}, {"average": {"generator": 0.9}}, {"data": 2}],
    ids=str,
)
def test_a_checkpoint_is_used_for_the_same_training_only(tmp_path, capsys, change):
    with pytest.raises(KeyboardInterrupt):
        training.fit(build(), batches(), 20, tmp_path, callbacks=[interrupt_at(5)])
    is_same = change == {}
    settings = {name: value for name, value in change.items() if name != "data"}
    data = batches(seed=change.get("data", 1))
    history = training.fit(build(**settings), data, 6, tmp_path)
    said = capsys.readouterr().out
    assert history.steps == [1, 2, 3, 4, 5, 6]
    assert ("Going on from step 5" in said) == is_same
    assert ("is of another training; it now stands in checkpoint-other" in said) != is_same
    assert (tmp_path / "checkpoint-other.npz").exists() != is_same


def of_the_chapter(**settings):
    """The fingerprint of a training of chapter 04."""
    cells = notebook_cells.load("04")
    if "gamma" in settings:
        settings = {"kind": type("Other", (cells.PenalisedGAN,), settings)}
    elif "kind" in settings:
        settings = {"kind": getattr(cells, settings["kind"])}
    gan = cells.build_gan(tf.distribute.get_strategy(), 8, 28, 1, **settings)
    return fingerprints.of(gan, batches())


def test_a_chapters_settings_are_part_of_the_training():
    plain = of_the_chapter()
    assert of_the_chapter() == plain
    others = [{"seed": 1}, {"rates": (1e-3, 1e-4)}, {"kind": "SmoothedGAN"}, {"width": 16}]
    others += [{"kind": "PenalisedGAN"}, {"gamma": 0.2}, {"gamma": 0.3}]
    found = [of_the_chapter(**settings) for settings in others]
    assert len({plain, *found}) == 1 + len(others)


def test_code_and_numbers_that_a_step_uses_are_part_of_the_training(monkeypatch):
    data = batches()
    before = fingerprints.of(build(), data)
    monkeypatch.setattr(training_jobs, "LATENT", 11)
    after = fingerprints.of(build(), data)
    assert before != after


def test_an_error_in_a_callback_loses_nothing(tmp_path, capsys):
    class Fail(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if int(self.model.step.numpy()) == 7:
                raise OSError("no more")

    model, whole = build(), build()
    with pytest.raises(OSError, match="no more"):
        training.fit(model, batches(), 20, tmp_path, save_every=0, callbacks=[Fail()])
    training.fit(model, batches(), 20, tmp_path)
    assert "Going on from step" in capsys.readouterr().out
    training.fit(whole, batches(), 20, tmp_path / "whole")
    assert gap(weights_of(whole), weights_of(model)) == 0


def test_a_callback_can_end_the_training(tmp_path):
    class Enough(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = int(self.model.step.numpy()) == 4

    model = build()
    assert training.fit(model, batches(), 20, tmp_path, callbacks=[Enough()]).steps == [1, 2, 3, 4]
    assert not (tmp_path / "checkpoint.npz").exists()
    assert training.fit(model, batches(), 2, tmp_path).steps == [5, 6]


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".checkpoint-0123.npz").write_bytes(b"half")
    training.fit(build(), batches(), 1, tmp_path)
    assert not list(tmp_path.glob("*.npz")) and not list(tmp_path.glob(".*.npz"))


@pytest.mark.parametrize("damage", ["cut", "bits", "empty", "text"])
def test_a_damaged_checkpoint_is_never_loaded(tmp_path, capsys, damage):
    with pytest.raises(KeyboardInterrupt):
        training.fit(build(), batches(), 20, tmp_path, callbacks=[interrupt_at(5)])
    path = tmp_path / "checkpoint.npz"
    content = bytearray(path.read_bytes())
    if damage == "bits":
        content[len(content) // 3] ^= 255
    content = {"cut": content[: len(content) // 2], "empty": b"", "text": b"hello"}.get(
        damage, content
    )
    path.write_bytes(content)
    history = training.fit(build(), batches(), 3, tmp_path)
    assert "is damaged" in capsys.readouterr().out
    assert history.steps == [1, 2, 3]


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.npz"
    checkpoints.save(path, {"a": np.arange(3)}, {"n": 1})

    def break_off(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", break_off)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(path, {"a": np.arange(4)}, {"n": 2})
    arrays, notes = checkpoints.load(path)
    assert (arrays["a"].tolist(), notes) == ([0, 1, 2], {"n": 1})
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint.npz"]
    assert checkpoints.load(tmp_path / "no.npz") is None


FULL_DISK = """
import sys
from imagegen_tf import runtime
run = runtime.setup(precision="float32")
sys.path.insert(0, sys.argv[1])
import training_jobs
from imagegen_tf import datasets, training
data = datasets.batches(training_jobs.pictures(), 64)
training.fit(training_jobs.build(run.strategy), data, 5, sys.argv[2])
"""


@pytest.mark.parametrize("options", ["size=16k", "ro"])
def test_a_full_disk_and_a_read_only_folder_are_named(tmp_path, options):
    if sys.platform != "linux":
        return  # only Linux can mount a small disk for a test
    code = (
        'mount -t tmpfs -o "$0" none "$1" && "$2" -c "$3" "$4" "$1/run"; '
        'status=$?; ls -A "$1/run" 2>/dev/null; exit $status'
    )
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", code, options, str(tmp_path)]
    command += [sys.executable, FULL_DISK, str(processes.SCRIPT.parent)]
    environment = os.environ | {"PYTHONPATH": str(runtime.repository())}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    reason = {"size=16k": "No space left on device", "ro": "Read-only file system"}[options]
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        f"run/checkpoint.npz could not be written ({reason})"
    )
    assert done.stdout == ""  # no partial file


def test_a_loss_that_is_not_finite_stops_and_says_what_to_try(tmp_path):
    def divide(model, loss):
        return loss / tf.cast(model.step.value - 3, tf.float32)

    model = build(spoil=divide)
    with pytest.raises(
        FloatingPointError,
        match="'generator' is inf at step 4. Build the model anew; try a lower learn",
    ):
        training.fit(model, batches(), 20, tmp_path)


def test_nan_in_the_data_is_noticed(tmp_path):
    pictures = np.ones((640, 28, 28, 1), np.float32)
    pictures[100] = np.nan
    data = tf.data.Dataset.from_tensor_slices(pictures).batch(64, drop_remainder=True).repeat()
    with pytest.raises(FloatingPointError, match="look for NaN in the data"):
        training.fit(build(), data, 20, tmp_path)


def test_data_that_end_too_early_are_refused(tmp_path):
    data = datasets.batches(training_jobs.pictures(), 64, repeat=False)
    with pytest.raises(ValueError, match="the data ended after 10 of 12 steps"):
        training.fit(build(), data, 12, tmp_path)
    with pytest.raises(ValueError, match="steps: expected at least 1, got 0"):
        training.fit(build(), data, 0, tmp_path)


def test_wrong_channels_are_refused(tmp_path):
    data = tf.data.Dataset.from_tensors(np.zeros((64, 28, 28, 3), np.uint8)).repeat()
    with pytest.raises(ValueError, match="28, 28, 3"):
        training.fit(build(), data, 2, tmp_path)


def test_noise_differs_between_calls_steps_and_seeds():
    model = build()
    model._replica.step = tf.constant(5, tf.int64)

    def draw(seed=3, step=5):
        model.seed, model._replica.step = seed, tf.constant(step, tf.int64)
        model._replica.calls = 0
        return model.normal((64, 3, 5)).numpy(), model.normal((64, 3, 5)).numpy()

    first, second = draw()
    assert first.shape == (64, 3, 5)
    for other in (second, draw(step=6)[0], draw(seed=4)[0]):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.15  # 960 numbers: 4.6 sigma
    assert np.array_equal(first, draw()[0])


def test_a_share_of_the_noise_is_a_part_of_the_whole(monkeypatch):
    model = build()

    class Second:
        replica_id_in_sync_group = 1

    def draw(rows, uniform=False):
        model._replica.calls = 0
        return (model.uniform if uniform else model.normal)((rows, 7)).numpy()

    for uniform in (False, True):
        whole, first = draw(8, uniform), draw(4, uniform)
        with monkeypatch.context() as patch:
            patch.setattr(tf.distribute, "get_replica_context", Second)
            second = draw(4, uniform)
        assert np.array_equal(whole, np.concatenate([first, second]))


def test_replicas_draw_different_latents_that_together_are_the_batch_of_one(tmp_path):
    finish(start("noise", tmp_path / "one"))
    finish(start("noise", tmp_path / "two", IMAGEGEN_CPU_REPLICAS="2"))
    first, second = load(tmp_path / "two.npz")
    assert not np.isclose(first, second).any()
    (whole,) = load(tmp_path / "one.npz")
    assert np.array_equal(whole, np.concatenate([first, second]))


def test_noise_in_a_loop_of_the_graph_is_refused():
    model = build()

    @tf.function
    def looped():
        total = tf.zeros((2, 3))
        for _ in tf.range(3):
            total += model.normal((2, 3))
        return total

    with pytest.raises(RuntimeError, match="each pass of the loop would draw the same"):
        looped()


def test_noise_has_the_right_distribution():
    model = build()
    normal, uniform = model.normal((1000, 1001)).numpy(), model.uniform((1000, 1001)).numpy()
    # A million draws: four standard errors of mean and variance.
    assert abs(normal.mean()) < 0.004 and abs(normal.var() - 1) < 0.006
    assert abs(uniform.mean() - 0.5) < 0.0012 and abs(uniform.var() - 1 / 12) < 0.0004
    assert uniform.min() >= 0 and uniform.max() < 1


def test_evaluation_changes_nothing_and_gives_the_same_again(tmp_path):
    model = build(average={"generator": 0.9})
    training.fit(model, batches(), 3, tmp_path)
    before = training_jobs.values(model)
    data = datasets.batches(training_jobs.pictures(), 64, repeat=False)
    first, second = training.evaluate(model, data), training.evaluate(model, data)
    assert first == second and set(first) == {"brightness"}
    after = training_jobs.values(model)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    with pytest.raises(ValueError, match="at least one batch"):
        training.evaluate(model, data.take(0))


def test_averages_follow_their_network(tmp_path):
    model = build(average={"generator": 0.5})
    slow = [variable.numpy() for variable in model.averages["generator"].variables]
    for step in range(3):
        training.fit(model, batches(), 1, tmp_path)
        # The decay is at most (1 + step) / (10 + step), so that the start is soon forgotten.
        rate = 1 - min(0.5, (1 + step) / (10 + step))
        fast = [variable.numpy() for variable in model.generator.variables]
        slow = [a + rate * (b - a) for a, b in zip(slow, fast, strict=True)]
    assert gap(slow, [v.numpy() for v in model.averages["generator"].variables]) < 1e-5


def test_predict_goes_batch_by_batch_and_leaves_weights_alone():
    model = build()
    latents = (
        np.random.default_rng(0).standard_normal((25, training_jobs.LATENT)).astype(np.float32)
    )
    before = training_jobs.values(model)
    whole = training.predict(model.generator, latents)
    assert whole.shape == (25, 28, 28, 1) and whole.dtype == np.float32
    assert np.allclose(whole, training.predict(model.generator, latents, batch_size=7), atol=1e-6)
    assert all(np.array_equal(before[name], v) for name, v in training_jobs.values(model).items())


def test_records_are_written_for_tensorboard(tmp_path):
    training.fit(build(), batches(), 3, tmp_path, samples=samples)
    files = list((tmp_path / "tensorboard").glob("events.out.*"))
    assert len(files) == 1
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(files[0]))
        for value in event.summary.value
    }
    assert {"generator", "discriminator", "samples"} <= tags


def wrong_loss(kind):
    """A change of the generator's loss that minimize refuses."""
    return {
        "vector": lambda model, loss: tf.stack([loss, loss]),
        "float16": lambda model, loss: tf.cast(loss, tf.float16),
        "constant": lambda model, loss: tf.constant(1.0),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "vector",
            r"expected a float32 scalar, a mean over the batch; got float32 of shape \(2,\)",
        ),
        ("float16", "got float16"),
        ("constant", "it does not depend on generator"),
    ],
)
def test_wrong_losses_are_refused(tmp_path, kind, message):
    with pytest.raises(ValueError, match=message):
        training.fit(build(spoil=wrong_loss(kind)), batches(), 1, tmp_path)
    assert not (tmp_path / "checkpoint.npz").exists()


def test_compile_refuses_what_would_go_wrong():
    model = build()
    with pytest.raises(ValueError, match="no network 'critic'"):
        model.compile({"critic": keras.optimizers.SGD()})
    with pytest.raises(ValueError, match="it would clip each replica's share"):
        model.compile({"generator": keras.optimizers.Adam(clipnorm=1.0)})
    for optimizer, reason in (
        (keras.optimizers.Adam(use_ema=True), "ask for averages"),
        (keras.optimizers.Adam(gradient_accumulation_steps=2), "fails with several replicas"),
        (keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "itself scales the loss"),
    ):
        with pytest.raises(ValueError, match=reason):
            model.compile({"generator": optimizer})
    with pytest.raises(ValueError, match="XLA is for a single GPU"):
        model.compile({"generator": keras.optimizers.SGD()}, jit=True)
    with pytest.raises(ValueError, match="has no optimizer: name it in compile"):
        model._optimizer_of(keras.Sequential(name="critic"))


def test_compile_again_forgets_what_was_before():
    model = build(adam=True, average={"generator": 0.9})
    few = len(build().state())
    sgd = {name: keras.optimizers.SGD(0.01) for name in model.optimizers}
    model.compile(sgd)
    assert not model.averages
    assert len(model.state()) == few
    with pytest.raises(ValueError, match="no optimizer"):
        model.compile({"generator": keras.optimizers.SGD(0.01)})
        model._optimizer_of(model.discriminator)


def test_samples_outside_0_to_1_are_refused_before_training(tmp_path):
    model = build()
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\], got -1 to 1"):
        wrong = lambda: np.linspace(-1, 1, 64).reshape(1, 8, 8, 1)  # noqa: E731
        training.fit(model, batches(), 5, tmp_path, samples=wrong)
    assert not list(tmp_path.glob("*.npz"))  # or the next training would go on from this start


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_kept_outlives_a_start_that_fails(tmp_path, monkeypatch, capsys, error):
    def fail(*_):
        raise error

    with pytest.raises(KeyboardInterrupt):
        training.fit(build(), batches(), 9, tmp_path, callbacks=[interrupt_at(5)])
    kept = (tmp_path / "checkpoint.npz").read_bytes()
    for place in ((fingerprints, "of"), (training.sessions.Session, "_resume")):
        with monkeypatch.context() as patch:
            patch.setattr(*place, fail)
            with pytest.raises(error):
                training.fit(build(), batches(), 9, tmp_path)
        assert (tmp_path / "checkpoint.npz").read_bytes() == kept
    training.fit(build(), batches(), 9, tmp_path)
    assert "Going on from step 5" in capsys.readouterr().out


def test_stopped_after_the_last_step_nothing_is_trained_again(tmp_path, capsys):
    def stopping():
        if int(model.step.numpy()) == 5:
            raise KeyboardInterrupt
        return samples()

    model, whole = build(), build()
    with pytest.raises(KeyboardInterrupt):
        training.fit(model, batches(), 5, tmp_path, samples=stopping)
    again = build()
    history = training.fit(again, batches(), 5, tmp_path, samples=samples)
    assert "Going on from step 5" in capsys.readouterr().out
    assert int(again.step.numpy()) == 5 and max(history.samples) == 5
    training.fit(whole, batches(), 5, tmp_path / "whole")
    assert gap(weights_of(whole), weights_of(again)) == 0
    assert not list(tmp_path.glob("*.npz"))


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    class Break(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if int(self.model.step.numpy()) == 5:
                self.model.generator.variables[0].assign_add(
                    self.model.generator.variables[0] * np.inf
                )

    model = build()
    with pytest.raises(FloatingPointError):
        training.fit(model, batches(), 9, tmp_path, save_every=0, callbacks=[Break()])
    arrays, notes = checkpoints.load(tmp_path / "checkpoint.npz")
    assert all(np.isfinite(array).all() for array in arrays.values())


OUTSIDE = """
import sys
sys.path.insert(0, sys.argv[1])
from imagegen_tf import runtime
run = runtime.setup()
import keras, tensorflow as tf, training_jobs
late = keras.optimizers.SGD()
plain, mirrored = (training_jobs.build(s) for s in (tf.distribute.get_strategy(), run.strategy))
with run.strategy.scope():
    model = type(plain)(plain.generator, plain.discriminator)
    for one, optimizer in ((model, keras.optimizers.SGD()), (mirrored, late)):
        try:
            one.compile({"generator": optimizer})
        except RuntimeError as error:
            print(error)
with run.strategy.scope():
    optimizer = keras.optimizers.Adam()
mirrored.compile({"generator": optimizer}, average={"generator": 0.9})
created = run.strategy.extended.variable_created_in_scope
print(all(created(variable.value) for variable in mirrored.state()))
"""


def test_what_was_built_outside_the_scope_is_refused_and_compile_builds_inside():
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE, str(processes.SCRIPT.parent)],
        env=os.environ | {"PYTHONPATH": str(runtime.repository()), "IMAGEGEN_CPU_REPLICAS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    refused, same, inside = done.stdout.splitlines()
    assert refused == same and "generator or its optimizer was built outside" in refused
    assert inside == "True"
