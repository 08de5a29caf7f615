"""What a machine has, and which strategy and precision are chosen for it.

Nothing here imports TensorFlow: what the machine has is given as plain numbers and names.
"""

import json
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


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
    workers = count_workers(tf_config)
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


def count_workers(tf_config):
    """Count the workers, the chief among them, that TF_CONFIG names.

    Args:
        tf_config: text of the setting, or None.
    Returns:
        int, 1 without a cluster.
    Raises:
        ValueError: not JSON, or not of that form.
    """
    if not tf_config:
        return 1
    try:
        cluster = json.loads(tf_config).get("cluster", {})
        return max(1, len(cluster.get("chief", [])) + len(cluster.get("worker", [])))
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
