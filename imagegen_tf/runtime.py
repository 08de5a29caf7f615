"""The machine underneath: settings from outside, devices, precision, and files written whole.

Nothing here imports TensorFlow at import time, so that every chapter may ask for its profile and
its folders. What a machine has is given to `choose` as plain numbers and names.
"""

import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROFILES = ("quick", "full")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def repository():
    """Find the course's folder, the one that holds `notebooks` and `data`.

    It is the checkout that this package lies in. Where the package was installed elsewhere, it is
    the first folder that fits, from the current one upwards, and the current one if none does.
    """
    for folder in (Path(__file__).resolve().parent.parent, Path.cwd(), *Path.cwd().parents):
        if (folder / "notebooks").is_dir() and (folder / "data").is_dir():
            return folder
    return Path.cwd()


def profile():
    """Return the profile that IMAGEGEN_PROFILE asks for: "quick" (unless said) or "full".

    Quick runs every chapter in minutes on two CPU cores; full is for a GPU or a night.

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

    Raises:
        ValueError: IMAGEGEN_PROFILE is neither "quick" nor "full".
    Example:
        >>> pick(quick=200, full=20_000) in (200, 20_000)
        True

    Taught in: notebooks/00_start_here.ipynb
    """
    return {"quick": quick, "full": full}[profile()]


def runs_folder():
    """Return the folder that outputs go to: IMAGEGEN_RUNS, or `runs`, from the repository's root.

    It need not exist yet. Of several machines that train together only the chief's outputs are
    kept; the others write to a temporary folder that goes with their process.
    """
    if worker()[0] > 0:
        return Path(_thrown_away().name)
    folder = repository() / Path(os.environ.get("IMAGEGEN_RUNS") or "runs").expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"IMAGEGEN_RUNS: expected a folder, got the file {folder}")
    return folder


@functools.cache
def _thrown_away():
    """Make the folder of a worker whose outputs nobody needs."""
    return tempfile.TemporaryDirectory(prefix="imagegen-worker-", ignore_cleanup_errors=True)


def data_folder():
    """Return the folder that is searched first for data sets: IMAGEGEN_DATA, or None."""
    folder = os.environ.get("IMAGEGEN_DATA")
    return repository() / Path(folder).expanduser() if folder else None


@contextmanager
def quiet():
    """Hold back what is written to the error stream, and show it only if the body fails.

    For importing TensorFlow, whose C++ part writes to file descriptor 2 before any setting of its
    own is heard. What Python writes there is held back too.

    """
    sys.stderr.flush()
    stream = os.dup(2)
    with tempfile.TemporaryFile() as log:
        try:
            os.dup2(log.fileno(), 2)
            yield
        except BaseException:
            sys.stderr.flush()
            log.seek(0)
            os.write(stream, log.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stream, 2)
            os.close(stream)


def cpu_flags():
    """Return the processor's instruction sets, such as "avx2" or "amx_bf16", as Linux spells them.

    In lower case, as a frozenset; empty where they are not known (Windows).
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
    """What `choose` chose, and why; num_replicas is None where only the cluster knows."""

    strategy: str
    policy: str
    num_replicas: int | None
    strategy_reason: str
    policy_reason: str


def choose(precision="auto", *, gpus=(), cpu_flags=(), tf_config=None, cpu_replicas=1):
    """Choose the distribution strategy and the precision for a machine.

    Several GPUs come before logical CPU devices; these, because somebody asked for them by name,
    before a single GPU. The weakest GPU decides on the precision.

    Args:
        precision: "auto", "float32", "mixed_bfloat16" or "mixed_float16".
        gpus: compute capability of each GPU, for example [(8, 6)].
        cpu_flags: instruction sets of the processor, as `cpu_flags` returns them.
        tf_config: text of the setting TF_CONFIG, or None.
        cpu_replicas: the setting IMAGEGEN_CPU_REPLICAS, an integer >= 1.
    Returns:
        Choice.
    Raises:
        ValueError: an unknown precision, TF_CONFIG that is not JSON.
    Example:
        >>> choose(gpus=[(8, 6)]).policy
        'mixed_bfloat16'
    """
    if precision not in ("auto", *PRECISIONS):
        expected = ", ".join(repr(name) for name in ("auto", *PRECISIONS))
        raise ValueError(f"precision is {precision!r}, expected one of {expected}")
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
    """Count the workers, the chief among them, that the text of TF_CONFIG names; 1 without it."""
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


def worker():
    """Return this process's place among the machines that train together, as TF_CONFIG tells it.

    Returns:
        (index, count): 0 and 1 without TF_CONFIG. Worker 0 is the chief.
    Raises:
        ValueError: TF_CONFIG is not understood.
    Taught in: notebooks/13_scaling_up.ipynb
    """
    tf_config = os.environ.get("TF_CONFIG")
    count = count_workers(tf_config)
    if count < 2:
        return 0, 1
    config = json.loads(tf_config)
    task = config.get("task", {})
    # The chief, where there is one, comes before the workers.
    first = {"chief": 0, "worker": len(config["cluster"].get("chief", []))}.get(task.get("type"))
    index = task.get("index")
    if first is None or not isinstance(index, int) or not 0 <= first + index < count:
        raise ValueError(
            f"TF_CONFIG: expected a 'task' with 'type' and 'index' of this worker, got {task}"
        )
    return first + index, count


@dataclass(frozen=True)
class Runtime:
    """What `setup` made of this machine.

    strategy: tf.distribute.Strategy; networks are built inside `strategy.scope()`.
    policy: name of the precision, also set as Keras' global policy.
    profile: "quick" or "full".
    seed: the seed that everything random starts from.
    num_replicas: how many replicas train together, over all machines.
    is_chief: whether this process writes what is kept.
    """

    strategy: object
    policy: str
    profile: str
    seed: int
    num_replicas: int
    is_chief: bool


_settled = {}


def setup(seed=0, precision="auto", profile=None):
    """Prepare TensorFlow for this machine: devices, strategy, precision, seeds. Call it first.

    `choose` says which. On a GPU memory grows with need, so that a second notebook gets some, too.

    Args:
        seed: whole number; the global seeds of Python, NumPy and Keras start from it.
        precision: "auto", "float32", "mixed_bfloat16" or "mixed_float16"; see choose.
        profile: "quick" or "full"; by default IMAGEGEN_PROFILE decides.
    Returns:
        Runtime. Calling again with the same arguments gives the same one.
    Raises:
        RuntimeError: called before with other arguments, TensorFlow was already at work, or Keras
            runs on another backend.
        ValueError: unknown precision or profile, or a setting that is not understood.
    Taught in: notebooks/04_dcgan.ipynb
    """
    if profile not in (None, *PROFILES):
        raise ValueError(f"profile is {profile!r}, expected 'quick' or 'full'")
    if int(seed) < 0:
        raise ValueError(f"seed is {seed}, expected 0 or more")
    runs_folder()  # a setting that is wrong is better told now than after the training
    arguments = (int(seed), precision, profile or pick(quick="quick", full="full"))
    if _settled and arguments not in _settled:
        raise RuntimeError(
            f"setup was called before with {next(iter(_settled))}, now with {arguments}. "
            "Devices and precision cannot be changed later: restart the kernel"
        )
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        raise RuntimeError(_OTHER_BACKEND.format(os.environ["KERAS_BACKEND"]))
    # Not 2: on AMX, in bfloat16, TensorFlow logs as errors the shortcuts that it could not take.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():
        import keras
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(_OTHER_BACKEND.format(keras.backend.backend()))
    if not _settled:
        with quiet():
            strategy, policy = _devices(precision)
        index, _ = worker()
        keras.config.set_dtype_policy(policy)
        _settled[arguments] = Runtime(
            strategy, policy, arguments[2], arguments[0], strategy.num_replicas_in_sync, index == 0
        )
    if profile is not None:
        os.environ["IMAGEGEN_PROFILE"] = profile
    keras.utils.set_random_seed(arguments[0])
    return _settled[arguments]


_OTHER_BACKEND = (
    "Keras runs on {}, but this course is written for tensorflow: unset KERAS_BACKEND "
    "(and look into .keras/keras.json in your home folder), then restart the kernel"
)


def cpu_replicas():
    """Return the setting IMAGEGEN_CPU_REPLICAS: how many logical CPU devices train together."""
    text = os.environ.get("IMAGEGEN_CPU_REPLICAS") or "1"
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"IMAGEGEN_CPU_REPLICAS is {text!r}, expected a whole number, 1 or more")
    return int(text)


def _devices(precision):
    """Set the devices up; return the strategy and the name of the precision."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # a chapter traces many steps; TensorFlow warns of that
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    choice = choose(
        precision,
        gpus=[detail.get("compute_capability", (0, 0)) for detail in details],
        cpu_flags=cpu_flags(),
        tf_config=os.environ.get("TF_CONFIG"),
        cpu_replicas=cpu_replicas(),
    )
    try:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        devices = None
        if choice.strategy == "MirroredStrategy" and len(gpus) < 2:
            cpu = tf.config.list_physical_devices("CPU")[0]
            each = [tf.config.LogicalDeviceConfiguration()] * choice.num_replicas
            tf.config.set_logical_device_configuration(cpu, each)
            devices = [f"CPU:{number}" for number in range(choice.num_replicas)]
        if choice.strategy == "MultiWorkerMirroredStrategy":
            print(f"This is worker {worker()[0]} of {worker()[1]}; waiting for the others.")
            return tf.distribute.MultiWorkerMirroredStrategy(), choice.policy
    except RuntimeError as error:
        raise RuntimeError(
            f"TensorFlow was at work before setup ({error}): restart the kernel"
        ) from error
    if choice.strategy == "MirroredStrategy":
        return tf.distribute.MirroredStrategy(devices), choice.policy
    return tf.distribute.get_strategy(), choice.policy


@contextmanager
def atomic_write(path):
    """Give a temporary path in the same folder; rename it to `path` if the body succeeds.

    Args:
        path: where the file shall stand in the end; missing folders are made.
    Yields:
        pathlib.Path with the same ending.
    Raises:
        OSError: the folder cannot be written, or the disk is full; the message names the path, and
            nothing of the new file is left.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # or a power cut could leave a name without its content
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(error.errno, f"{path} could not be written ({reason})") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path, text):
    """Write a text file as UTF-8, or leave what was there; path and errors as in atomic_write."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
