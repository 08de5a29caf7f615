"""The machine underneath: settings from outside, and what a machine's devices are used for.

Nothing here imports TensorFlow at import time, so that every chapter may ask for its profile and
its folders.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROFILES = ("quick", "full")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
REPOSITORY = Path(__file__).resolve().parent.parent


def profile():
    """Return the profile that was asked for: "quick" (unless said) or "full".

    Quick runs every chapter in minutes on two CPU cores; full is for a GPU or a night.
    Read from the setting IMAGEGEN_PROFILE.

    Returns:
        "quick" or "full".
    Raises:
        ValueError: IMAGEGEN_PROFILE is neither.
    Taught in: notebooks/00_start_here.ipynb
    """
    name = os.environ.get("IMAGEGEN_PROFILE") or "quick"
    if name not in PROFILES:
        raise ValueError(f"IMAGEGEN_PROFILE is {name!r}, expected 'quick' or 'full'")
    return name


def pick(*, quick, full):
    """Return the value that belongs to the profile, so that both stand in plain sight.

    Args:
        quick: value for the quick profile.
        full: value for the full profile.
    Returns:
        One of the two.
    Raises:
        ValueError: IMAGEGEN_PROFILE is neither "quick" nor "full".
    Example:
        >>> pick(quick=200, full=20_000) in (200, 20_000)
        True

    Taught in: notebooks/00_start_here.ipynb
    """
    return {"quick": quick, "full": full}[profile()]


def runs_folder():
    """Return the folder that outputs go to: IMAGEGEN_RUNS, or `runs` in the repository.

    A relative path counts from the repository's root, wherever the notebook runs. The folder need
    not exist yet.

    Returns:
        Absolute pathlib.Path.
    """
    return REPOSITORY / Path(os.environ.get("IMAGEGEN_RUNS") or "runs").expanduser()


def data_folder():
    """Return the folder that is searched first for data sets: IMAGEGEN_DATA, if it is set.

    A relative path counts from the repository's root, wherever the notebook runs.

    Returns:
        Absolute pathlib.Path, or None.
    """
    folder = os.environ.get("IMAGEGEN_DATA")
    return REPOSITORY / Path(folder).expanduser() if folder else None


def cpu_flags():
    """Return the names of the instruction sets that the processor has, spelled as Linux does.

    Read from /proc/cpuinfo on Linux and from sysctl on macOS; elsewhere nothing is known.

    Returns:
        frozenset of lower-case names such as "avx2" or "amx_bf16"; empty where not known.
    """
    if platform.system() == "Linux":
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        text = next((line for line in lines if line.startswith(("flags", "Features"))), "")
        return frozenset(text.partition(":")[2].lower().split())
    if platform.system() == "Darwin":
        command = ["sysctl", "-a", "hw.optional"]
        lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        pairs = (line.partition(":") for line in lines)
        return frozenset(
            name.rpartition(".")[2].removeprefix("FEAT_").lower()
            for name, _, value in pairs
            if value.strip() == "1"
        )
    return frozenset()


@contextmanager
def quiet():
    """Hold back what is written to the error stream, and show it only if the body fails.

    For importing TensorFlow, whose C++ part writes to file descriptor 2 before any setting of its
    own is heard. What Python writes there is held back too.

    Example:
        >>> with quiet():
        ...     print("not shown", file=sys.stderr)
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as log:
        try:
            os.dup2(log.fileno(), 2)
            yield
        except BaseException:
            sys.stderr.flush()
            log.seek(0)
            os.write(kept, log.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


@dataclass(frozen=True)
class Choice:
    """What `choose` chose, and why.

    strategy: "default", "MirroredStrategy" or "MultiWorkerMirroredStrategy".
    policy: "float32", "mixed_bfloat16" or "mixed_float16".
    num_replicas: how many replicas train together; None where only the cluster knows.
    strategy_reason, policy_reason: one line each.
    """

    strategy: str
    policy: str
    num_replicas: int | None
    strategy_reason: str
    policy_reason: str


def choose(precision="auto", *, gpus=(), cpu_flags=(), tf_config=None, cpu_replicas=1):
    """Choose the distribution strategy and the precision for a machine.

    A pure function of what the machine has, so that every kind of machine can be tested on any.
    Several GPUs come before logical CPU devices; logical CPU devices, because somebody asked for
    them by name, come before a single GPU. The weakest GPU decides on the precision.

    Args:
        precision: "auto", "float32", "mixed_bfloat16" or "mixed_float16".
        gpus: compute capability of each GPU, for example [(8, 6)].
        cpu_flags: instruction sets of the processor, as `cpu_flags` returns them.
        tf_config: text of the setting TF_CONFIG, or None.
        cpu_replicas: the setting IMAGEGEN_CPU_REPLICAS, an integer >= 1.
    Returns:
        Choice.
    Raises:
        ValueError: an unknown precision, TF_CONFIG that is not JSON, fewer than one replica.
    Example:
        >>> choose(gpus=[(8, 6)]).policy
        'mixed_bfloat16'

    References:
        TensorFlow guides "Distributed training" and "Mixed precision".
    """
    if precision not in ("auto", *PRECISIONS):
        expected = ", ".join(repr(name) for name in ("auto", *PRECISIONS))
        raise ValueError(f"precision is {precision!r}, expected one of {expected}")
    if cpu_replicas < 1:
        raise ValueError(f"IMAGEGEN_CPU_REPLICAS is {cpu_replicas}, expected 1 or more")
    workers = _workers(tf_config)
    on_cpu = not gpus or (workers < 2 and len(gpus) == 1 and cpu_replicas > 1)
    if workers > 1:
        strategy, num_replicas = "MultiWorkerMirroredStrategy", None
        reason = f"TF_CONFIG names {workers} workers"
    elif not on_cpu and len(gpus) > 1:
        strategy, num_replicas = "MirroredStrategy", len(gpus)
        reason = f"{len(gpus)} GPUs in this machine"
    elif cpu_replicas > 1:
        strategy, num_replicas = "MirroredStrategy", cpu_replicas
        reason = f"IMAGEGEN_CPU_REPLICAS asks for {cpu_replicas} logical CPU devices"
    else:
        strategy, num_replicas = "default", 1
        reason = "one processor and no GPU" if on_cpu else "one GPU"
    if precision == "auto":
        policy, policy_reason = _precision((), cpu_flags) if on_cpu else _precision(gpus, ())
    else:
        policy, policy_reason = precision, "asked for"
    return Choice(strategy, policy, num_replicas, reason, policy_reason)


def _workers(tf_config):
    """Count the workers, the chief among them, that TF_CONFIG names."""
    if not tf_config:
        return 1
    try:
        cluster = json.loads(tf_config).get("cluster", {})
        return len(cluster.get("chief", [])) + len(cluster.get("worker", []))
    except (AttributeError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"TF_CONFIG is {tf_config!r}, expected JSON with a 'cluster' of 'worker' addresses"
        ) from error


def _precision(gpus, cpu_flags):
    """Choose a precision for these GPUs, or for the processor where there is none."""
    if gpus:
        weakest = min(tuple(capability) for capability in gpus)
        reason = "compute capability {}.{}".format(*weakest)
        if weakest >= (8, 0):
            return "mixed_bfloat16", f"{reason} multiplies bfloat16 in hardware"
        if weakest >= (7, 0):
            return "mixed_float16", f"{reason} multiplies float16, not bfloat16, in hardware"
        return "float32", f"{reason} has no fast half precision"
    if "amx_bf16" in cpu_flags:
        return "mixed_bfloat16", "the processor multiplies bfloat16 in hardware (amx_bf16)"
    return "float32", "the processor has no amx_bf16, which makes bfloat16 fast"


def write_text(path, text):
    """Write a text file beside its place, then rename it: never half of it is seen.

    Args:
        path: where to; missing folders are made.
        text: str, written as UTF-8.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
