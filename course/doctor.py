"""What is installed, what the machine has, what `setup` makes of it, and what to do about it."""

import os
import platform
import shutil
import subprocess
import textwrap
from importlib import metadata
from pathlib import Path

import psutil

from imagegen_tf import runtime

PACKAGES = "imagegen-tf tensorflow keras numpy scikit-image matplotlib jupyterlab".split()
FEATURES = ("avx2", "avx512f", "amx_bf16")
GIB = 2**30
ADVICE_WIDTH = 78


def examine():
    """Describe this machine as lines of (name, value, advice), the last ones what `setup` chooses.

    Imports TensorFlow, without the log of its start. No path of this machine is among them, so that
    a notebook may keep it.

    Returns:
        list of (name, value, advice): three strings each; advice is empty where nothing is missing.
    Raises:
        ImportError: TensorFlow is missing or broken.
    """
    lines = [
        ("system", f"{platform.system()} on {platform.machine()}", ""),
        ("python", platform.python_version(), ""),
        *map(_package, PACKAGES),
        *_processor(),
        *_room(),
    ]
    gpus = _gpus()
    lines += [(f"GPU {index}", description, "") for index, (description, _) in enumerate(gpus)]
    if not gpus:
        lines.append(("GPU", "none that TensorFlow can use", _gpu_advice()))
    choice = runtime.choose(
        gpus=[capability for _, capability in gpus],
        cpu_flags=runtime.cpu_flags(),
        tf_config=os.environ.get("TF_CONFIG"),
        cpu_replicas=runtime.cpu_replicas(),
    )
    return [
        *lines,
        ("profile", runtime.profile(), ""),
        ("strategy", f"{choice.strategy}: {choice.strategy_reason}", ""),
        ("precision", f"{choice.policy}: {choice.policy_reason}", ""),
    ]


def table(lines):
    """Lay the lines of `examine` out as an aligned table, each advice below its line.

    Returns:
        str, without a newline at its end.
    Example:
        >>> print(table([("python", "3.11", ""), ("GPU", "none", "Not needed.")]))
        python  3.11
        GPU     none
                > Not needed.
    """
    width = max(len(name) for name, _, _ in lines) + 2
    rows = []
    for name, value, advice in lines:
        rows.append(f"{name:{width}}{value}")
        wrapped = textwrap.wrap(advice, ADVICE_WIDTH, initial_indent="> ", subsequent_indent="  ")
        rows += [" " * width + row for row in wrapped]
    return "\n".join(rows)


def _package(name):
    """Line for a package and its version."""
    try:
        return name, metadata.version(name), ""
    except metadata.PackageNotFoundError:
        return name, "missing", "Install the course again: make install"


def _processor():
    """Lines for the processor, its cores and the features that TensorFlow makes use of."""
    name, flags, cores = "not known", runtime.cpu_flags(), _cores()
    if platform.system() == "Linux":
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    elif platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True).stdout.strip() or name
    features = ", ".join(f"{name} {'yes' if name in flags else 'no'}" for name in FEATURES)
    few = "Chapters state their minutes for two cores; they take longer here."
    slow = "Without avx2 training is slower than the chapters state."
    is_slow = platform.machine() in ("x86_64", "AMD64") and flags and "avx2" not in flags
    return [
        ("processor", name, ""),
        ("cores", str(cores), "" if cores > 1 else few),
        ("features", features if flags else "not known", slow if is_slow else ""),
    ]


def _cores():
    """Count the cores that this process may use."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count()


def _room():
    """Lines for free memory and free disk."""
    memory = psutil.virtual_memory()
    disk = psutil.disk_usage(str(runtime.repository())).free
    close = "Little memory is free: close other programs." if memory.available < 4 * GIB else ""
    delete = "Little room is left for what the chapters write: delete something."
    free = f"{memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f} GiB"
    return [
        ("memory", free, close),
        ("disk", f"{disk / GIB:.1f} GiB free", delete if disk < 2 * GIB else ""),
    ]


def _gpus():
    """List (description, compute capability) of the GPUs that TensorFlow sees."""
    with runtime.quiet():
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(device) for device in devices]
    gpus = []
    for detail in details:
        capability = detail.get("compute_capability", (0, 0))
        name = detail.get("device_name", "name not known")
        gpus.append((f"{name}, compute capability {capability[0]}.{capability[1]}", capability))
    return gpus


def _gpu_advice():
    """Say what to do where TensorFlow sees no GPU."""
    if platform.system() == "Windows":
        return "TensorFlow uses a GPU on Windows only inside WSL2."
    if shutil.which("nvidia-smi"):
        return "This machine has an NVIDIA driver: make install GPU=1"
    return "The quick profile needs none; the full one wants an NVIDIA GPU on Linux."
