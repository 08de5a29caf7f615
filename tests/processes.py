"""Start the jobs of training_jobs in processes of their own, and compare what they leave."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from imagegen_tf import runtime

SCRIPT = Path(__file__).parent / "training_jobs.py"
SECONDS = 300  # that a process may take on a busy machine


def environment():
    """The environment of a job: none of our settings, and all that it imports."""
    ours = {name: v for name, v in os.environ.items() if not name.startswith("IMAGEGEN_")}
    folders = [str(runtime.repository()), str(SCRIPT.parent)]
    return ours | {"PYTHONPATH": os.pathsep.join(folders), "TF_CPP_MIN_LOG_LEVEL": "3"}


def start(job, output, *arguments, **settings):
    """Start a process that does one of the jobs."""
    command = [sys.executable, str(SCRIPT), job, str(output), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment() | settings, **pipes)


def finish(process):
    """Wait for a process that must succeed."""
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, printed[-3000:]
    return printed


def workers(job, folder, *arguments, **settings):
    """Start two processes that train together."""
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    configs = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(2)]
    return [
        start(job, folder / f"worker{i}", *arguments, **settings, TF_CONFIG=json.dumps(config))
        for i, config in enumerate(configs)
    ]


def load(path):
    """The arrays of a file."""
    with np.load(path) as file:
        return [file[name] for name in file.files]


def gap(first, second):
    """The largest difference of two lists of arrays, as a share of each array's largest value."""
    assert len(first) == len(second) > 0
    pairs = zip(first, second, strict=True)
    gaps = [np.abs(a - b).max() / max(np.abs(a).max(), 1e-30) for a, b in pairs]
    return np.max(gaps)  # max would lose NaN
