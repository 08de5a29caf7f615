"""One call of `training.fit`: how data reach the replicas, what is recorded, saved and resumed."""

import os
import time
from pathlib import Path

import numpy as np

from imagegen_tf import checkpoints, fingerprints, journal, runtime

with runtime.quiet():
    import keras
    import tensorflow as tf

LOST = (  # what TensorFlow says when another machine is gone
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def rows(data):
    """Give the number of images in a batch of this machine."""
    count = tf.nest.flatten(data.element_spec)[0].shape[0]
    if count is None:
        raise ValueError("data: expected batches of a fixed size (drop_remainder=True)")
    return count


def shared(strategy, data):
    """Deal this machine's batches out to its replicas, the first rows to the first replica."""
    replicas = strategy.num_replicas_in_sync // runtime.worker()[1]
    if replicas == strategy.num_replicas_in_sync == 1:
        return data
    count = rows(data)
    if count % replicas:
        raise ValueError(f"data: {replicas} replicas cannot share {count} images evenly")
    return strategy.distribute_datasets_from_function(lambda _: data.rebatch(count // replicas))


def _from_chief(strategy, values):
    """Give every machine the chief's values."""
    if runtime.worker()[1] == 1:
        return values
    wide = [np.asarray(value, np.float64) for value in values]  # one type for one message

    def on_replica():
        replicas = tf.distribute.get_replica_context()
        is_first = tf.equal(replicas.replica_id_in_sync_group, 0)
        return replicas.all_reduce("sum", [tf.where(is_first, v, tf.zeros_like(v)) for v in wide])

    results = strategy.run(tf.function(on_replica))
    return [strategy.experimental_local_results(result)[0].numpy() for result in results]


class Session(keras.callbacks.Callback):
    """Records, shows, saves and resumes one call of `fit`."""

    def __init__(self, model, steps, run_dir, samples, samples_every, save_every):
        super().__init__()
        self.trained, self.samples = model, samples
        self.samples_every, self.save_every = samples_every, save_every
        self.history = journal.History(first=self._step())
        self.target = self.history.first + steps
        self.path = Path(run_dir) / "checkpoint.npz"
        self.board = None
        self.is_chief = runtime.worker()[0] == 0

    def begin(self, data):
        """Resume if there is something to resume, else try at once whether one can write."""
        self.history.global_batch_size = rows(data) * runtime.worker()[1]
        if self.is_chief:
            for rest in self.path.parent.glob(f".{self.path.stem}-*"):
                rest.unlink()  # of a process that was killed while it wrote
        self.fingerprint = fingerprints.of(self.trained, data) if self.is_chief else None
        if not self._resume():
            self.save()
        self.trained.recent.clear()
        self.tensorboard = journal.TensorBoard(self.path.parent / "tensorboard", self.is_chief)
        self.board = journal.Board(self.target, self.history)
        if self.samples and not self.history.samples:
            self._sample(self.history.first)
        if self._step() == self.target and self._is_due(self.target):  # stopped at the very end
            self._sample(self.target)
        self.before = self.history.seconds
        self.started = self.saved = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Record the losses since the last time."""
        step = self._step()
        recent, self.trained.recent[:] = list(self.trained.recent), []
        if not recent:
            raise ValueError(f"the data ended after {step} of {self.target} steps")
        losses = {
            name: float(np.mean([np.asarray(one[name]) for one in recent])) for name in recent[0]
        }
        self.history.steps.append(step)
        self.history.seconds = self.before + time.monotonic() - self.started
        for name, value in losses.items():
            if not np.isfinite(value):
                raise FloatingPointError(
                    f"the loss {name!r} is {value} at step {step}. Build the model anew; try a "
                    'lower learning rate or precision="float32", and look for NaN in the data and '
                    "for a logarithm or a division of 0 in train_step"
                )
            self.history.losses.setdefault(name, []).append(value)
        drawn = self._sample(step) if self._is_due(step) else None
        self.tensorboard.write(step, losses, drawn)
        self.board.update()
        if time.monotonic() - self.saved >= self.save_every and step < self.target:
            self.save()

    def _step(self):
        """Give the number of steps that the model was trained for."""
        return int(self.trained.step.numpy())

    def _is_due(self, step):
        """Tell whether samples are to be drawn at this step."""
        if not self.samples:
            return False
        last = max(self.history.samples, default=-1)
        return step == self.target or step // self.samples_every > last // self.samples_every

    def _sample(self, step):
        """Draw samples, keep and show them."""
        self.history.samples[step] = journal.as_bytes(self.samples())
        self.board.show(self.history.samples[step])
        return self.history.samples[step]

    def stop(self):
        """Keep all that was done when a person stops the training."""
        if not self.board:
            return  # nothing has begun: what an earlier training kept must stay
        if self.trained.recent:
            self.on_epoch_end(None)
        self.save()
        self.board.close(f"stopped after step {self._step():,}; run again to go on")

    def finish(self):
        """Leave the last state on the board; a finished training is not resumed."""
        self.board.close(
            f"{self._step() - self.history.first:,} steps in {self.history.seconds:.0f} s, "
            f"{self.history.images_per_second:,.0f} images/s"
        )
        if self.is_chief:
            self.path.unlink(missing_ok=True)

    def abandon(self):
        """Leave no checkpoint behind if not one step was taken."""
        if not self.board:
            return  # nothing has begun: what an earlier training kept must stay
        self.board.close(f"failed after step {self._step():,}")
        if self.is_chief and self._step() == self.history.first:
            self.path.unlink(missing_ok=True)

    def save(self):
        """Write a checkpoint, if this is the chief."""
        if not self.is_chief:
            return
        weights = [variable.numpy() for variable in self.trained.trainable_variables]
        if not all(np.isfinite(weight).all() for weight in weights):
            return  # the loss that tells of it comes a step later; the file before this is better
        arrays = {f"variable_{i:04}": v.numpy() for i, v in enumerate(self.trained.state())}
        arrays |= {f"samples_{step:09}": images for step, images in self.history.samples.items()}
        notes = {
            "fingerprint": self.fingerprint,
            "first": self.history.first,
            "steps": self.history.steps,
            "losses": self.history.losses,
            "seconds": self.history.seconds,
        }
        checkpoints.save(self.path, arrays, notes)
        self.saved = time.monotonic()

    def _resume(self):
        """Take the chief's checkpoint over, if it has one that fits; tell whether."""
        found = self._read() if self.is_chief else None
        model, variables = self.trained, self.trained.state()
        strategy = model.distribute_strategy
        begun = found[1].first if found else -1
        begun = int(_from_chief(strategy, [np.int64(begun)])[0])
        if begun < 0:
            return False
        self.target += begun - self.history.first
        values = found[0] if found else [np.zeros(v.shape, v.dtype) for v in variables]
        for variable, value in zip(variables, _from_chief(strategy, values), strict=True):
            variable.assign(value)
        size = self.history.global_batch_size
        self.history = found[1] if found else journal.History(begun)
        self.history.global_batch_size = size
        print(f"Going on from step {self._step():,}, where training was interrupted.")
        return True

    def _read(self):
        """Read the checkpoint; None if there is none that fits."""
        try:
            found = checkpoints.load(self.path)
        except ValueError as error:
            print(error)
            return None
        if found is None:
            return None
        arrays, notes = found
        values = [arrays[name] for name in sorted(arrays) if name.startswith("variable_")]
        begun, now, steps = notes["first"], self.history.first, self.target - self.history.first
        is_same = notes["fingerprint"] == self.fingerprint and begun <= now <= begun + steps
        if not is_same or int(values[0]) > begun + steps:
            aside = self.path.with_name("checkpoint-other.npz")
            os.replace(self.path, aside)
            print(f"The checkpoint found is of another training; it now stands in {aside.name}.")
            return None
        samples = {int(name[8:]): arrays[name] for name in arrays if name.startswith("samples_")}
        kept = notes["steps"], notes["losses"], samples, notes["seconds"]
        return values, journal.History(begun, *kept)
