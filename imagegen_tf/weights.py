"""Networks on disk: how chapters save theirs, and the small trained ones that the course ships."""

import hashlib
import random
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from imagegen_tf import runtime

FOLDER = runtime.repository() / "data" / "weights"
_HALF = ("bfloat16", "float16", "mixed_bfloat16", "mixed_float16")


def save(network, path):
    """Save a network as a float32 copy, beside and renamed: never half of it is seen.

    Args:
        network: keras.Sequential or functional keras.Model, of any dtype policy and under any
            strategy; built-in layers or registered ones of ours, no Lambda.
        path: where to, ending in .keras; missing folders are made.
    Raises:
        TypeError: another kind of network, or one with a Lambda layer, which could not be loaded.
        ValueError: another ending than .keras.
        OSError: as in runtime.atomic_write.
        RuntimeError: inside a strategy's scope.
    Taught in: notebooks/04_dcgan.ipynb
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"{path}: expected a name that ends in .keras")
    if type(network).__name__ not in ("Functional", "Sequential"):
        kind = type(network).__name__
        raise TypeError(f"expected a Sequential or functional network, got {kind}")
    with isolated():
        copy = type(network).from_config(_in_float32(network.get_config()))
        copy.set_weights([_in_float32(value) for value in network.get_weights()])
        with runtime.atomic_write(path) as temporary:
            copy.save(temporary)


def _in_float32(part):
    """Copy a part of a network's configuration, or its values, with float32 for half precision."""
    if isinstance(part, np.ndarray):
        return part.astype(np.float32) if part.dtype.name in _HALF else part
    if isinstance(part, list | tuple):
        return type(part)(_in_float32(entry) for entry in part)
    if not isinstance(part, dict):
        return part
    if part.get("class_name") == "Lambda":
        raise TypeError("a network with a Lambda layer could not be loaded; use a built-in layer")
    if part.get("class_name") == "DTypePolicy" and part["config"]["name"] in _HALF:
        return part | {"config": {"name": "float32"}}
    return {
        key: "float32" if key == "dtype" and str(value) in _HALF else _in_float32(value)
        for key, value in part.items()
    }


@contextmanager
def isolated():
    """Build networks in float32, and leave the chapter's precision and random numbers as they were.

    Keras draws the seeds that layers lack from Python's `random`.

    Raises:
        RuntimeError: inside a strategy's scope, where the network would live on all replicas.
    """
    with runtime.quiet():
        import keras
        import tensorflow as tf
    if tf.distribute.has_strategy():
        raise RuntimeError("load, save and judge networks outside of `with strategy.scope():`")
    policy, state = keras.config.dtype_policy(), random.getstate()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        random.setstate(state)


def path(name):
    """Find a shipped network and check that its file is whole.

    Args:
        name: as in data/weights/SHA256SUMS, without the ending .keras: "04_dcgan/generator".
    Returns:
        Absolute pathlib.Path.
    Raises:
        FileNotFoundError: no such network; the message lists those that there are.
        ValueError: the file is not what SHA256SUMS says.
    Example:
        >>> path("features_digits").name
        'features_digits.keras'
    """
    # A file is used only if it is what was shipped.
    sums, file = _sums(), FOLDER / f"{name}.keras"
    if f"{name}.keras" not in sums or not file.is_file():
        there = [known for known in sorted(sums) if (FOLDER / known).is_file()]
        known = ", ".join(known.removesuffix(".keras") for known in there)
        raise FileNotFoundError(f"{file}: no such shipped network; there are: {known or 'none'}")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != sums[f"{name}.keras"]:
        raise ValueError(f"{file} is damaged (hash {found[:12]}); get it again with git checkout")
    return file


def load(name):
    """Load a shipped network, its file checked first.

    Args:
        name: as for path.
    Returns:
        A Keras network.
    Raises:
        FileNotFoundError, ValueError: as path.
    """
    return read(path(name))


def read(file):
    """Load a network that was saved, plain and float32 whatever the chapter's settings are.

    Args:
        file: path of a .keras file.
    Returns:
        A Keras network.
    Raises:
        FileNotFoundError: no such file. ValueError, OSError or what else Keras raises: damaged.
    """
    with runtime.quiet():
        import keras
    with isolated():
        return keras.saving.load_model(file)


def keep(name, network):
    """Put a network among the shipped ones: save it under data/weights, its hash in SHA256SUMS.

    Args:
        name: of the file, without the ending .keras.
        network: as for save.
    Raises:
        TypeError, OSError: as save.
    """
    file = FOLDER / f"{name}.keras"
    save(network, file)
    sums = _sums() | {f"{name}.keras": hashlib.sha256(file.read_bytes()).hexdigest()}
    lines = [f"{value}  {file_name}\n" for file_name, value in sorted(sums.items())]
    runtime.write_text(FOLDER / "SHA256SUMS", "".join(lines))


def _sums():
    """Read SHA256SUMS as a dict of file name to hash."""
    file = FOLDER / "SHA256SUMS"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    pairs = (line.split(maxsplit=1) for line in text.splitlines())
    return {name: value for value, name in pairs}
