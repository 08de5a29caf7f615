"""The training loop: with progress and samples, and going on where it was interrupted."""

import re
import time

import numpy as np

from imagegen_tf import checkpoint, progress, runtime
from imagegen_tf.distributed import DistributedModel, batch_rows, distribute  # noqa: F401

with runtime.quiet():
    import keras
    import tensorflow as tf

_LOST = (  # what TensorFlow says when another machine is gone
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def fit(
    model,
    data,
    steps,
    run_dir,
    *,
    samples=None,
    samples_every=None,
    save_every=30.0,
    callbacks=(),
):
    """Train a model for a number of steps; go on where an interrupted training stopped.

    A model that was trained before is trained on from where it stands. Shows progress, the time
    left and samples. Keeps a checkpoint in `run_dir` while it trains, and removes it when all steps
    are done: what is finished is not resumed. A checkpoint of another training is not used:
    checkpoint.fingerprint says what must be equal. On several machines the chief alone reads and
    writes, and sends what it read to the others.

    Args:
        model: DistributedModel, compiled.
        data: tf.data.Dataset without end, as datasets.batches makes it.
        steps: training steps, >= 1.
        run_dir: folder for what is kept; best another one for each training.
        samples: function without arguments that gives images (number, height, width, channels) in
            [0, 1]; shown while training, and kept in the history.
        samples_every: steps between samples; by default an eighth of all.
        save_every: seconds between checkpoints.
        callbacks: of keras.callbacks.Callback, such as EarlyStopping; what Keras calls an epoch is
            one record here, and `model.optimizer` is not there.
    Returns:
        progress.History.
    Raises:
        FloatingPointError: a loss is not finite.
        ValueError: fewer than 1 step, data that end too early or that replicas cannot share.
        OSError: `run_dir` cannot be written, or the disk is full.
        RuntimeError: another machine stopped.
    Taught in: notebooks/04_dcgan.ipynb
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    record_every = min(100, max(1, steps // 200))
    samples_every = samples_every or max(record_every, steps // 8 // record_every * record_every)
    kept = checkpoint.Checkpoint(model, data, steps, run_dir)
    if kept.resume():
        print(f"Going on from step {model.steps_done:,}, where training was interrupted.")
    else:
        kept.write()  # now, or one would learn too late that the folder is read-only
    history, target = kept.history, kept.target
    history.global_batch_size = batch_rows(data) * runtime.worker()[1]
    board = progress.Board(history, target, samples, samples_every)
    recent = []  # the losses of each step since the last record; not waited for
    try:
        board.sample(model.steps_done)
        model.make_train_function()
        model.stop_training = False  # a callback may set it
        watchers = keras.callbacks.CallbackList(list(callbacks), model=model)
        watchers.on_train_begin()
        batches = iter(distribute(model.distribute_strategy, data.skip(model.steps_done)))
        saved = time.monotonic()
        while (step := model.steps_done) < target and not model.stop_training:
            epoch = len(history.steps)
            watchers.on_epoch_begin(epoch)
            to_the_next_record = record_every - (step - history.first) % record_every
            for _ in range(min(to_the_next_record, target - step)):
                recent.append(model.train_function(batches))
            losses = board.record(model.steps_done, recent)
            if time.monotonic() - saved >= save_every and model.steps_done < target:
                kept.write()
                saved = time.monotonic()
            watchers.on_epoch_end(epoch, losses)
        watchers.on_train_end()
    except KeyboardInterrupt:
        if recent:
            board.record(model.steps_done, recent)
        kept.write()
        board.close(f"stopped after step {model.steps_done:,}; run again to go on")
        raise
    except Exception as error:
        board.close(f"failed after step {model.steps_done:,}")
        if model.steps_done == history.first:
            kept.remove()  # the next training would go on from this start
        if isinstance(error, StopIteration | tf.errors.OutOfRangeError):
            text = f"the data ended after {model.steps_done} of {target} steps"
            raise ValueError(text) from None
        if not _tells_of_another_machine(error):
            raise
        raise RuntimeError(
            "Another machine stopped, or cannot be reached any more. Start all of them again: "
            f"training goes on from the chief's last checkpoint. ({type(error).__name__})"
        ) from error
    seconds, speed = history.seconds, history.images_per_second
    board.close(
        f"{model.steps_done - history.first:,} steps in {seconds:.0f} s, {speed:,.0f} images/s"
    )
    kept.remove()
    return history


def _tells_of_another_machine(error):
    """Tell whether TensorFlow failed because another machine is gone."""
    # InternalError is a GPU's as well: only what speaks of the connection tells of other machines.
    speaks_of_it = isinstance(error, tf.errors.InternalError) and re.search(
        "collective|connection|remote|worker|rpc", str(error), re.IGNORECASE
    )
    return runtime.worker()[1] > 1 and (isinstance(error, _LOST) or bool(speaks_of_it))


def evaluate(model, data):
    """Run `test_step` over data and average what it returns; no weight changes.

    Args:
        model: DistributedModel with a test_step, compiled.
        data: tf.data.Dataset that ends, as datasets.batches(..., repeat=False) makes it.
    Returns:
        dict of name to float.
    Raises:
        ValueError: no batch.
    Taught in: notebooks/05_vae.ipynb
    """
    step = model.distributed(model.test_step)
    # Numbers below 0: noise that no training step draws.
    results = [
        step(tf.constant(-1 - number, tf.int64), batch)
        for number, batch in enumerate(distribute(model.distribute_strategy, data))
    ]
    if not results:
        raise ValueError("data: expected at least one batch")
    return {name: float(np.mean([means[name] for means in results])) for name in results[0]}


def predict(network, inputs, batch_size=500):
    """Apply a network to many inputs, batch by batch, on this machine alone.

    Args:
        network: keras.Model.
        inputs: array (number, ...), at least one, or a tuple of them for a network with several
            inputs.
        batch_size: inputs at a time.
    Returns:
        float32 array (number, ...).
    Raises:
        ValueError: no input.
    Taught in: notebooks/04_dcgan.ipynb
    """
    several = isinstance(inputs, tuple)
    arrays = inputs if several else (inputs,)
    if not len(arrays[0]):
        raise ValueError("inputs: expected at least one, got none")

    @tf.function(reduce_retracing=True)
    def apply(*parts):
        return tf.cast(network(list(parts) if several else parts[0], training=False), tf.float32)

    outputs = []
    for start in range(0, len(arrays[0]), batch_size):
        parts = [tf.convert_to_tensor(array[start : start + batch_size]) for array in arrays]
        outputs.append(apply(*parts).numpy())
    return np.concatenate(outputs)
