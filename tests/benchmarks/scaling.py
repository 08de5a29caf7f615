"""From one process to two, each on a core of its own: how much of the second core is gained.

64 pictures a step in each process: chapter 04's GAN, whose batch normalisation has to talk in every
layer, and chapter 10's flow, which talks once a step. Two workers of TensorFlow's multi-worker
strategy talk over loopback, as two machines do over their network. The baseline is one process on
one core, without a strategy. They take turns; every turn is a new start, with several measurements.
"""

import json
import os
import socket
import subprocess
import sys

import numpy as np

from imagegen_tf import runtime
from tests.benchmarks.timing import row

TURNS, BLOCKS, STEPS = 3, 3, 10  # a block is so many steps
NETWORKS = {
    "chapter 04's GAN": ("04", "build_gan(run.strategy, 64, 28, 1)"),
    "chapter 10's flow": ("10", "build_flow(run.strategy, 28, 1, 10, steps=100)"),
}
PROGRAM = """
import json, os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
chapter, build = sys.argv[2:4]
blocks, steps = map(int, sys.argv[4:])
import numpy as np
from imagegen_tf import datasets, runtime
run = runtime.setup(precision="float32")
from tests import notebook_cells
from tests.benchmarks.timing import seconds
model = eval("taught." + build, {"taught": notebook_cells.load(chapter), "run": run})
model.make_train_function()
rng = np.random.default_rng(0)
pictures = rng.integers(0, 256, (640, 28, 28, 1)).astype(np.uint8)
data = datasets.Dataset("noise", "train", pictures, rng.integers(0, 10, 640))
batches = iter(datasets.batches(data, 64 * run.num_replicas, labels=chapter == "10"))
step = lambda: model.train_function(batches)
seconds(step, 5)
print(json.dumps([64 * run.num_replicas * steps / seconds(step, steps) for _ in range(blocks)]))
"""


def measure():
    """Compare two workers with one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        print("needs two cores that a process can be pinned to: nothing is measured")
        return
    for name, network in NETWORKS.items():
        turns = [(train(cores[:1], network), train(cores[:2], network)) for _ in range(TURNS)]
        one, two = (np.median([turn[number] for turn in turns]) for number in range(2))
        ratios = [np.median(second) / np.median(first) / 2 for first, second in turns]
        yield row(
            f"two workers, each on its core, {name}: images/s",
            "twice one process on one core",
            two / one / 2,
            bound=0.8,
            spread=(min(ratios), max(ratios)),
            note=f"{two:,.0f} and {one:,.0f} images/s, {TURNS} turns",
        )


def train(cores, network):
    """Start a worker on each core; give the images per second of all together, block by block."""
    settings = configs(len(cores))
    workers = [start(core, network, one) for core, one in zip(cores, settings, strict=True)]
    printed = [worker.communicate(timeout=600) for worker in workers]
    for worker, (_, complaints) in zip(workers, printed, strict=True):
        if worker.returncode:
            raise RuntimeError(f"a worker failed:\n{complaints[-2000:]}")
    return json.loads(printed[0][0].splitlines()[-1])


def start(core, network, config):
    """Start one worker."""
    hidden = ("TF_CONFIG", "IMAGEGEN_CPU_REPLICAS", "IMAGEGEN_PROFILE")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(core), *network, str(BLOCKS), str(STEPS)],
        cwd=runtime.repository(),
        env=kept | config | {"CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def configs(count):
    """Give each worker its settings; one alone needs none."""
    if count == 1:
        return [{}]
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    cluster = {"worker": [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]}
    for probe in probes:
        probe.close()
    tasks = [{"type": "worker", "index": number} for number in range(count)]
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]
