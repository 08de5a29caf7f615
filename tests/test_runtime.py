"""runtime: settings from outside, folders, quiet imports, the choice and the set-up of devices.

The expected choices are the rules of the design, "Devices and precision", written out by hand.
"""

import json
import os
import subprocess
import sys

import pytest

from imagegen_tf import runtime

SETTINGS = "IMAGEGEN_PROFILE IMAGEGEN_RUNS IMAGEGEN_DATA IMAGEGEN_CPU_REPLICAS TF_CONFIG".split()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """Start every test without settings from outside."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


def test_the_profile_decides_what_is_picked(monkeypatch):
    assert (runtime.profile(), runtime.pick(quick=1, full=2)) == ("quick", 1)
    monkeypatch.setenv("IMAGEGEN_PROFILE", "full")
    assert (runtime.profile(), runtime.pick(quick=1, full=2)) == ("full", 2)
    monkeypatch.setenv("IMAGEGEN_PROFILE", "FULL")
    with pytest.raises(ValueError, match="IMAGEGEN_PROFILE is 'FULL', expected 'quick' or 'full'"):
        runtime.pick(quick=1, full=2)


def test_folders_count_from_the_repository_wherever_the_notebook_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    root = runtime.repository()
    assert (root / "pyproject.toml").exists()
    for empty in (None, ""):  # empty settings count as not set
        if empty is not None:
            monkeypatch.setenv("IMAGEGEN_RUNS", empty)
            monkeypatch.setenv("IMAGEGEN_DATA", empty)
        assert (runtime.runs_folder(), runtime.data_folder()) == (root / "runs", None)
    monkeypatch.setenv("IMAGEGEN_RUNS", "elsewhere/today")
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path))
    assert runtime.runs_folder() == root / "elsewhere" / "today"
    assert runtime.data_folder() == tmp_path


def test_an_installed_package_finds_the_repository_that_one_is_in(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "site-packages" / "a" / "runtime.py"))
    for name in ("course/notebooks/labs", "course/data", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "course" / "notebooks" / "labs")
    assert runtime.repository() == tmp_path / "course"
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert runtime.repository() == tmp_path / "elsewhere"


def test_quiet_holds_back_what_c_code_writes_unless_the_body_fails(capfd):
    with runtime.quiet():
        os.write(2, b"chatter")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
    with pytest.raises(ImportError), runtime.quiet():
        os.write(2, b"the reason")
        raise ImportError
    assert capfd.readouterr().err == "the reason"


def test_write_leaves_nothing_half_written(tmp_path):
    path = tmp_path / "new" / "a.txt"
    runtime.write_text(path, "first\n")
    with pytest.raises(UnicodeEncodeError):
        runtime.write_text(path, "second \ud800")
    assert path.read_bytes() == b"first\n"
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(OSError, match=r"b\.txt could not be written \((Not a dir|File exists)"):
        runtime.write_text(path / "b.txt", "text")


def cluster(*workers, kind="worker", index=0, chief=()):
    """The text of a TF_CONFIG."""
    machines = {"worker": list(workers)} | ({"chief": list(chief)} if chief else {})
    return json.dumps({"cluster": machines, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", (0, 1)),
        (cluster("a:1"), (0, 1)),
        (cluster("a:1", "b:1", index=1), (1, 2)),
        (cluster("b:1", "c:1", chief=["a:1"], kind="chief"), (0, 3)),
        (cluster("b:1", "c:1", chief=["a:1"], index=1), (2, 3)),
        (cluster("a:1", "b:1", kind="ps"), "expected a 'task'"),
        (cluster("a:1", "b:1", index=2), "expected a 'task'"),
        (cluster("a:1", "b:1", index="0"), "expected a 'task'"),
        ("{", "expected JSON"),
        ("[]", "expected JSON"),
        ('{"cluster": {"worker": 3}}', "expected JSON"),
    ],
)
def test_a_worker_knows_its_place_the_chief_comes_first(monkeypatch, tmp_path, text, place):
    monkeypatch.setenv("TF_CONFIG", text)
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path))
    if isinstance(place, str):
        with pytest.raises(ValueError, match=f"TF_CONFIG.*{place}"):
            runtime.worker()
        return
    assert runtime.worker() == place
    # Only the chief's outputs are kept.
    folder = runtime.runs_folder()
    assert folder.is_dir() and (folder == tmp_path) == (place[0] == 0)


def test_cpu_replicas_is_a_whole_number(monkeypatch):
    for text in ["0", "-1", "two", "1.5"]:
        monkeypatch.setenv("IMAGEGEN_CPU_REPLICAS", text)
        with pytest.raises(
            ValueError, match="IMAGEGEN_CPU_REPLICAS is .*, expected a whole number"
        ):
            runtime.cpu_replicas()


TWO = cluster("a:1", "b:1")
CPU, AMX = {"cpu_flags": ("avx2",)}, {"cpu_flags": ("avx2", "amx_bf16")}
# machine, strategy, number of replicas, precision
MACHINES = {
    "a laptop": (CPU, "default", 1, "float32"),
    "a processor of which nothing is known": ({}, "default", 1, "float32"),
    "a server's processor": (AMX, "default", 1, "mixed_bfloat16"),
    "two logical CPU devices": (AMX | {"cpu_replicas": 2}, "Mirrored", 2, "mixed_bfloat16"),
    "one P100": (AMX | {"gpus": [(6, 0)]}, "default", 1, "float32"),
    "one V100": ({"gpus": [(7, 0)]}, "default", 1, "mixed_float16"),
    "one A100": ({"gpus": [(8, 0)]}, "default", 1, "mixed_bfloat16"),
    "one GPU beyond 9": ({"gpus": [(10, 0)]}, "default", 1, "mixed_bfloat16"),
    "eight H200": ({"gpus": [(9, 0)] * 8}, "Mirrored", 8, "mixed_bfloat16"),
    "the weaker of two": ({"gpus": [(8, 6), (7, 5)]}, "Mirrored", 2, "mixed_float16"),
    "logical CPUs before one GPU": (
        CPU | {"gpus": [(8, 0)], "cpu_replicas": 2},
        "Mirrored",
        2,
        "float32",
    ),
    "several GPUs before logical CPUs": (
        CPU | {"gpus": [(8, 0)] * 2, "cpu_replicas": 4},
        "Mirrored",
        2,
        "mixed_bfloat16",
    ),
    "two machines": (CPU | {"tf_config": TWO}, "MultiWorkerMirrored", None, "float32"),
    "two machines with a V100 each": (
        AMX | {"tf_config": TWO, "gpus": [(7, 0)]},
        "MultiWorkerMirrored",
        None,
        "mixed_float16",
    ),
    "what is asked for": ({"precision": "mixed_float16"}, "default", 1, "mixed_float16"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_choice_for(name):
    machine, strategy, num_replicas, policy = MACHINES[name]
    choice = runtime.choose(**machine)
    assert choice.strategy.removesuffix("Strategy") == strategy
    assert (choice.num_replicas, choice.policy) == (num_replicas, policy)
    for reason in (choice.strategy_reason, choice.policy_reason):
        assert reason and "\n" not in reason


def test_other_precisions_are_refused():
    for precision in ("bfloat16", "", None):
        with pytest.raises(ValueError, match="expected one of 'auto', 'float32', 'mixed_bfloat16'"):
            runtime.choose(precision)


def test_cpu_flags(monkeypatch):
    for system, text, expected in [
        ("Linux", "model name\t: X\nflags\t\t: fpu avx2 amx_bf16\n", {"fpu", "avx2", "amx_bf16"}),
        ("Linux", "Features\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("Linux", "nothing\n", set()),
        ("Darwin", "hw.optional.arm.FEAT_BF16: 1\nhw.optional.avx2_0: 0\n", {"bf16"}),
        ("Windows", "", set()),
    ]:
        # The texts have the layout of /proc/cpuinfo and of `sysctl hw.optional`.
        monkeypatch.setattr(runtime.platform, "system", lambda system=system: system)
        monkeypatch.setattr(runtime.Path, "read_text", lambda *_, text=text, **__: text)
        done = subprocess.CompletedProcess((), 0, stdout=text)
        monkeypatch.setattr(runtime.subprocess, "run", lambda *_, done=done, **__: done)
        assert runtime.cpu_flags() == expected


def new_process(script, **settings):
    """Run Python code in a process of its own; give what it printed and its error stream."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(runtime.repository())} | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines(), done.stderr


SETUP = """
import sys
from imagegen_tf import runtime
first = runtime.setup(seed=1, precision="mixed_bfloat16", profile="full")
print(first.strategy.__class__.__name__, first.num_replicas, first.policy, first.is_chief)
import keras
print(keras.config.dtype_policy().name, first.profile, runtime.pick(quick=1, full=2))
drawn = [float(keras.random.normal(())) for _ in range(2)]
assert runtime.setup(seed=1, precision="mixed_bfloat16") is first
assert float(keras.random.normal(())) == drawn[0]
try:
    runtime.setup(seed=2)
except RuntimeError as error:
    print(error)
"""


def test_setup_prepares_two_replicas_in_silence():
    printed, errors = new_process(SETUP, IMAGEGEN_CPU_REPLICAS="2")
    assert errors == ""
    assert printed[:2] == ["MirroredStrategy 2 mixed_bfloat16 True", "mixed_bfloat16 full 2"]
    assert "setup was called before" in printed[2] and "restart the kernel" in printed[2]


def test_training_in_bfloat16_writes_nothing_to_the_error_stream(tmp_path):
    script = (
        "import sys\n"
        "from imagegen_tf import runtime\n"
        "run = runtime.setup(precision='mixed_bfloat16')\n"
        f"sys.path.insert(0, {str(runtime.repository() / 'tests')!r})\n"
        "import training_jobs\n"
        "gan = training_jobs.chapters_model('04', run.strategy)\n"
        f"training_jobs.training.fit(gan, training_jobs.batches(), 2, {str(tmp_path)!r})\n"
        "print(gan.steps_done)"
    )
    assert new_process(script) == (["2"], "")


def test_setup_says_that_tensorflow_was_at_work_before():
    script = (
        "from imagegen_tf import runtime\nwith runtime.quiet(): import tensorflow as tf\n"
        "tf.zeros(1)\nruntime.setup()"
    )
    _, errors = new_process(script, IMAGEGEN_CPU_REPLICAS="2")
    assert errors.splitlines()[-1].startswith("RuntimeError: TensorFlow was at work before setup")


def test_setup_refuses_another_backend_and_other_profiles(monkeypatch):
    with pytest.raises(ValueError, match="profile is 'fast', expected 'quick' or 'full'"):
        runtime.setup(profile="fast")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(RuntimeError, match="Keras runs on jax, .* unset KERAS_BACKEND"):
        runtime.setup()
