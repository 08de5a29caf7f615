"""What two trainings have in common, if one may go on from the other's checkpoint."""

import hashlib
import itertools
import types

import numpy as np

from imagegen_tf import runtime

with runtime.quiet():
    import keras
    import tensorflow as tf

_PLAIN = (bool, int, float, str, types.NoneType)


def of(model, data):
    """Sum up a model, how it is trained, and its data.

    Two trainings get the same fingerprint if shapes of all variables, optimizers, precision, the
    model's plain settings (numbers, texts), the code of its class with the functions and numbers
    that it uses, and the first batch are the same. Names that Keras counts up ("dense_2") do not
    matter.

    Args:
        model: DistributedModel, compiled.
        data: tf.data.Dataset.
    Returns:
        str of 64 hexadecimal digits.
    """
    settings = set(vars(model)) - set(vars(keras.Model())) - {"stop_training"}
    settings = sorted(name for name in settings if not name.startswith("_"))
    kinds = itertools.takewhile(
        lambda kind: kind.__name__ != "DistributedModel", type(model).__mro__
    )
    members = [pair for kind in kinds for pair in sorted(vars(kind).items())]
    parts = [
        [(tuple(variable.shape), variable.dtype) for variable in model.state()],
        {name: _nameless(one.get_config()) for name, one in model.optimizers.items()},
        keras.config.dtype_policy().name,
        sorted(model.decays.items()),
        [(name, vars(model)[name]) for name in settings if _is_plain(vars(model)[name])],
        [(name, one) for name, one in members if name[0] != "_" and _is_plain(one)],
        _uses([one for _, one in members if isinstance(one, types.FunctionType)]),
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


def _uses(functions):
    """List the code of functions, and the functions and numbers beside them that they use."""
    seen, waiting, found = set(), list(functions), []
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        codes = [function.__code__]
        for code in codes:
            codes += [one for one in code.co_consts if isinstance(one, types.CodeType)]
            found.append((code.co_code, code.co_names, list(filter(_is_plain, code.co_consts))))
            for name in code.co_names:
                value = function.__globals__.get(name)
                if _is_plain(value):
                    found.append((name, value))
                if getattr(value, "__globals__", None) is function.__globals__:
                    waiting.append(value)
    return found
