"""The same training on one replica and on two, each in a process of its own.

Both run without oneDNN: its convolutions for AVX-512 choose their algorithm by the size of the
batch, and half a batch is rounded otherwise than a whole one (3e-4 of a small array after 8 steps
of chapter 08, where plain kernels stay below 1e-6).
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from imagegen_tf import runtime

START = """
import sys
from imagegen_tf import runtime
run = runtime.setup(precision="float32")
sys.path.insert(0, sys.argv[1])
import keras, notebook_cells, numpy as np, tensorflow as tf
from imagegen_tf import datasets, images, training
sgd = lambda rate: keras.optimizers.SGD(rate)
def finish(model, history):
    values = [variable.numpy() for variable in model.state()]
    np.savez(sys.argv[2], *values, losses=history.losses[next(iter(history.losses))])
    print(run.num_replicas)
"""


def gap(job, folder):
    """Train on one replica and on two; give the largest relative difference of any array.

    Args:
        job: program that trains with the names of START and ends with finish(model, history).
        folder: pathlib.Path for its files.
    """
    results, files = [], {replicas: folder / f"{replicas}.npz" for replicas in ("1", "2")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", START + job, str(Path(__file__).parent), str(file)],
            env=os.environ
            | {
                "PYTHONPATH": str(runtime.repository()),
                "IMAGEGEN_CPU_REPLICAS": replicas,
                "TF_ENABLE_ONEDNN_OPTS": "0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for replicas, file in files.items()
    ]
    for process, (replicas, file) in zip(processes, files.items(), strict=True):
        printed, complaints = process.communicate()
        assert printed.splitlines()[-1:] == [replicas], complaints[-2000:]
        with np.load(file) as arrays:
            results.append([arrays[name] for name in arrays.files])
    assert len(results[0]) == len(results[1]) > 2
    gaps = [
        np.abs(one - two).max() / max(np.abs(one).max(), 1e-3)
        for one, two in zip(*results, strict=True)
    ]
    assert np.isfinite(gaps).all()
    return max(gaps)
