"""Networks on disk: how chapters save theirs, and the small trained ones that the course ships."""

import ctypes
import hashlib
import random
import threading
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
    Taught in: notebooks/04_dcgan.ipynb
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"{path}: expected a name that ends in .keras")
    if type(network).__name__ not in ("Functional", "Sequential"):
        kind = type(network).__name__
        raise TypeError(f"expected a Sequential or functional network, got {kind}")
    config, values = _in_float32(network.get_config()), network.get_weights()

    def write(file):
        copy = type(network).from_config(config)
        copy.set_weights([_in_float32(value) for value in values])
        copy.save(file)

    with runtime.atomic_write(path) as temporary:
        apart(write, temporary)


def _in_float32(part):
    """Copy a part of a network's configuration, or its values, with float32 for half precision."""
    if isinstance(part, np.ndarray):
        return part.astype(np.float32) if part.dtype.name in _HALF else part
    if isinstance(part, list | tuple):
        return type(part)(_in_float32(one) for one in part)
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


def apart(function, *arguments):
    """Call a function away from the chapter's settings, and leave its random numbers as they were.

    Strategy scope, dtype policy and Keras' seed generator are kept for each thread: in a thread of
    its own a network is plain, local and float32. Keras draws missing seeds from Python's random.

    Args:
        function: what to call, with the arguments that follow.
    Returns:
        What the function returns; what it raises is raised here.
    """
    result, errors, state, over = [], [], random.getstate(), threading.Event()

    def call():
        try:
            result.append(function(*arguments))
        except BaseException as error:
            errors.append(error)
        finally:
            over.set()

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        over.wait()  # join, once interrupted, takes a running thread for ended (before Python 3.13)
    except BaseException:  # the stop button reaches this thread only: pass it on, and wait
        stop = ctypes.py_object(KeyboardInterrupt)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), stop)
        over.wait()
        raise
    finally:
        random.setstate(state)
    if errors:
        raise errors[0]
    return result[0]


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
    sums, file = _sums(), FOLDER / f"{name}.keras"
    if f"{name}.keras" not in sums or not file.is_file():
        there = [one for one in sorted(sums) if (FOLDER / one).is_file()]
        known = ", ".join(one.removesuffix(".keras") for one in there)
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
    return apart(keras.saving.load_model, file)


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
    lines = [f"{value}  {one}\n" for one, value in sorted(sums.items())]
    runtime.write_text(FOLDER / "SHA256SUMS", "".join(lines))


def _sums():
    """Read SHA256SUMS as a dict of file name to hash."""
    file = FOLDER / "SHA256SUMS"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    pairs = (line.split(maxsplit=1) for line in text.splitlines())
    return {name: value for value, name in pairs}
