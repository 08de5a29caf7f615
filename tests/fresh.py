"""A saved network, read by a process that knows nothing of the one that made it."""

import os
import subprocess
import sys

import numpy as np

from imagegen_tf import runtime, weights

PROGRAM = """
import sys
import keras, numpy as np, imagegen_tf.layers
network = keras.saving.load_model(sys.argv[1] + "/network.keras")
inputs = list(np.load(sys.argv[1] + "/inputs.npz").values())
np.save(sys.argv[1] + "/output.npy", network(inputs if len(inputs) > 1 else inputs[0]))
"""


def output(network, inputs, folder):
    """Save a network, and let another process read and apply it.

    Args:
        network: keras.Model with one output.
        inputs: list of arrays, one for each input.
        folder: pathlib.Path for the files.
    Returns:
        The output, an array.
    """
    weights.save(network, folder / "network.keras")
    np.savez(folder / "inputs.npz", *inputs)
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        check=True,
        env=os.environ | {"PYTHONPATH": str(runtime.repository())},
    )
    return np.load(folder / "output.npy")
