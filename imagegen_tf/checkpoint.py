"""What an interrupted training goes on from: one file, whole or not there, of that training."""

import hashlib
import itertools
import json
import os
import types
from pathlib import Path

import numpy as np

from imagegen_tf import progress, runtime

with runtime.quiet():
    import keras
    import tensorflow as tf

_PLAIN = (bool, int, float, str, types.NoneType)


def save(path, arrays, notes):
    """Write arrays and notes into one file.

    Args:
        path: ends in .npz.
        arrays: dict of name to array.
        notes: what JSON can hold.
    Raises:
        OSError: as in runtime.atomic_write.
    """
    notes = notes | {"arrays": sorted(arrays)}
    with runtime.atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, notes=np.array(json.dumps(notes)), **arrays)


def load(path):
    """Read what `save` wrote.

    Args:
        path: of the file.
    Returns:
        (arrays, notes), or None if there is no such file.
    Raises:
        ValueError: the file is damaged; the zip format's checksums tell. PermissionError.
    """
    try:
        with open(path, "rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        notes = json.loads(str(arrays.pop("notes")))
        if notes.pop("arrays") != sorted(arrays):
            raise ValueError("arrays are missing")
    except FileNotFoundError:
        return None
    except PermissionError:
        raise
    except Exception as error:  # zipfile and NumPy raise many kinds for a damaged file
        raise ValueError(f"{path} is damaged ({error}) and is not used") from error
    return arrays, notes


class Checkpoint:
    """The file of one training. On several machines the chief alone reads and writes it.

    Args:
        model: training.DistributedModel, compiled.
        data: the endless tf.data.Dataset that it is trained on.
        steps: of this training, >= 1.
        run_dir: folder of the file.
    """

    def __init__(self, model, data, steps, run_dir):
        self.model = model
        self.path = Path(run_dir) / "checkpoint.npz"
        self.is_chief = runtime.worker()[0] == 0
        self.history = progress.History(first=model.steps_done)
        self.target = self.history.first + steps
        if self.is_chief:
            self.fingerprint = fingerprint(model, data)
            # What a process left that was killed while it wrote.
            for rest in self.path.parent.glob(f".{self.path.stem}-*"):
                rest.unlink()

    def write(self):
        """Write all that the training has reached."""
        weights = self.model.trainable_variables
        if not self.is_chief or not all(np.isfinite(weight.numpy()).all() for weight in weights):
            return  # a loss that is not finite comes a step later; the file before this is better
        variables, history = self.model.state(), self.history
        arrays = {f"variable_{i:04}": variable.numpy() for i, variable in enumerate(variables)}
        arrays |= {f"samples_{step:09}": images for step, images in history.samples.items()}
        notes = {name: getattr(history, name) for name in ("first", "steps", "losses", "seconds")}
        save(self.path, arrays, notes | {"fingerprint": self.fingerprint})

    def remove(self):
        """Remove the file."""
        if self.is_chief:
            self.path.unlink(missing_ok=True)

    def resume(self):
        """Take over model, history and target of the file.

        Returns:
            bool: whether there was a file, and of this training.
        """
        found = self._read() if self.is_chief else None
        strategy, variables = self.model.distribute_strategy, self.model.state()
        # The others learn from the chief whether it found one, and where that training began.
        begun = int(_from_chief(strategy, [found[1].first if found else -1])[0])
        if begun < 0:
            return False
        self.target += begun - self.history.first
        values = found[0] if found else [np.zeros(v.shape, v.dtype) for v in variables]
        for variable, value in zip(variables, _from_chief(strategy, values), strict=True):
            variable.assign(value)
        self.history = found[1] if found else progress.History(begun)
        return True

    def _read(self):
        """Read the variables' values and the history; None if there is no file that fits."""
        try:
            arrays, notes = load(self.path) or ({}, None)
        except ValueError as error:
            print(error)
            return None
        if notes is None:
            return None
        if notes.pop("fingerprint", None) == self.fingerprint:
            values = [arrays[name] for name in sorted(arrays) if name[:9] == "variable_"]
            samples = {int(name[8:]): arrays[name] for name in arrays if name[:8] == "samples_"}
            # The model stands where that training began or, in the same kernel, on its way.
            last = notes["first"] + self.target - self.history.first
            if notes["first"] <= self.history.first <= last and int(values[0]) <= last:
                return values, progress.History(samples=samples, **notes)
        aside = self.path.with_name("checkpoint-other.npz")
        os.replace(self.path, aside)
        print(f"The checkpoint found is of another training; it now stands in {aside.name}.")
        return None


def _from_chief(strategy, values):
    """Give every machine the chief's values: all others add zeros."""
    if runtime.worker()[1] == 1:
        return values
    wide = [np.asarray(value, np.float64) for value in values]  # one type for one message

    def on_replica():
        replicas = tf.distribute.get_replica_context()
        is_first = tf.equal(replicas.replica_id_in_sync_group, 0)
        return replicas.all_reduce("sum", [tf.where(is_first, v, tf.zeros_like(v)) for v in wide])

    results = strategy.run(tf.function(on_replica))
    return [strategy.experimental_local_results(result)[0].numpy() for result in results]


def fingerprint(model, data):
    """Sum up what two trainings must have in common, if one may go on from the other's checkpoint.

    That is: shapes of all variables, optimizers, precision, the model's plain settings (numbers,
    texts), the code of its class with the functions and numbers that it uses, and the first batch.
    Names that Keras counts up ("dense_2") do not matter.

    Args:
        model: DistributedModel, compiled.
        data: tf.data.Dataset.
    Returns:
        str of 64 hexadecimal digits.
    """
    settings = set(vars(model)) - set(vars(keras.Model())) - {"stop_training"}
    settings = sorted(name for name in settings if not name.startswith("_"))
    # The classes below DistributedModel, which is the course's, are the chapter's.
    kinds = itertools.takewhile(
        lambda kind: kind.__name__ != "DistributedModel", type(model).__mro__
    )
    members = [pair for kind in kinds for pair in sorted(vars(kind).items())]
    parts = [
        [(tuple(variable.shape), variable.dtype) for variable in model.state()],
        {name: _nameless(o.get_config()) for name, o in model.optimizers.items()},
        keras.config.dtype_policy().name,
        sorted(model.decays.items()),
        [(name, vars(model)[name]) for name in settings if _is_plain(vars(model)[name])],
        [(name, value) for name, value in members if name[0] != "_" and _is_plain(value)],
        _code([value for _, value in members if isinstance(value, types.FunctionType)]),
    ]
    sums = hashlib.sha256(repr(parts).encode())
    for batch in data.take(1):
        for part in tf.nest.flatten(batch):
            sums.update(np.ascontiguousarray(part))
    return sums.hexdigest()


def _is_plain(value):
    """Tell whether a value is a number or a text, or a tuple of such."""
    return isinstance(value, _PLAIN) or (isinstance(value, tuple) and all(map(_is_plain, value)))


def _nameless(config):
    """Copy an optimizer's configuration without names."""
    if not isinstance(config, dict):
        return config
    return {key: _nameless(value) for key, value in config.items() if key != "name"}


def _code(functions):
    """List the code of functions, and the functions and numbers beside them that they use."""
    seen, waiting, parts = set(), list(functions), []
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        codes = [function.__code__]
        for code in codes:  # grows: functions inside functions come after
            codes += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
            parts.append((code.co_code, code.co_names, list(filter(_is_plain, code.co_consts))))
            for name in code.co_names:
                value = function.__globals__.get(name)
                if _is_plain(value):
                    parts.append((name, value))
                if getattr(value, "__globals__", None) is function.__globals__:
                    waiting.append(value)
    return parts
