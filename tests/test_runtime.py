"""runtime: settings from outside, folders, quiet imports, set-up of devices."""

import json
import os
import subprocess
import sys

import pytest

from imagegen_tf import runtime


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """Start every test without settings from outside."""
    for name in ("IMAGEGEN_PROFILE", "IMAGEGEN_RUNS", "IMAGEGEN_DATA", "TF_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_profile_is_quick_unless_said(monkeypatch):
    assert runtime.profile() == "quick"
    monkeypatch.setenv("IMAGEGEN_PROFILE", "full")
    assert runtime.profile() == "full"


@pytest.mark.parametrize("name", ["FULL", "fast", " quick"])
def test_profile_refuses_other_names(monkeypatch, name):
    monkeypatch.setenv("IMAGEGEN_PROFILE", name)
    with pytest.raises(
        ValueError, match=f"IMAGEGEN_PROFILE is '{name}', expected 'quick' or 'full'"
    ):
        runtime.profile()
    with pytest.raises(ValueError, match="IMAGEGEN_PROFILE"):
        runtime.pick(quick=1, full=2)


def test_pick_follows_the_profile(monkeypatch):
    assert runtime.pick(quick=1, full=2) == 1
    monkeypatch.setenv("IMAGEGEN_PROFILE", "full")
    assert runtime.pick(quick=1, full=2) == 2


def test_folders_count_from_the_repository_wherever_the_notebook_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert runtime.runs_folder() == runtime.repository() / "runs"
    assert runtime.data_folder() is None
    monkeypatch.setenv("IMAGEGEN_RUNS", "elsewhere/today")
    monkeypatch.setenv("IMAGEGEN_DATA", "../pictures")
    assert runtime.runs_folder() == runtime.repository() / "elsewhere" / "today"
    assert runtime.data_folder() == runtime.repository() / ".." / "pictures"
    assert (runtime.repository() / "pyproject.toml").exists()


def test_absolute_folders_stay(monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path))
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path))
    assert runtime.runs_folder() == runtime.data_folder() == tmp_path


def test_empty_settings_count_as_not_set(monkeypatch):
    for name in ("IMAGEGEN_PROFILE", "IMAGEGEN_RUNS", "IMAGEGEN_DATA"):
        monkeypatch.setenv(name, "")
    assert runtime.profile() == "quick"
    assert runtime.runs_folder() == runtime.repository() / "runs"
    assert runtime.data_folder() is None


def test_quiet_holds_back_what_c_code_writes(capfd):
    with runtime.quiet():
        os.write(2, b"chatter")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_quiet_shows_what_it_held_back_when_the_body_fails(capfd):
    with pytest.raises(ImportError), runtime.quiet():
        os.write(2, b"the reason")
        raise ImportError
    assert capfd.readouterr().err == "the reason"


def test_quiet_holds_back_tensorflows_start():
    script = "from imagegen_tf import runtime\nwith runtime.quiet(): import tensorflow"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert (result.stdout, result.stderr) == (b"", b"")


def test_write_leaves_nothing_half_written(tmp_path):
    path = tmp_path / "new" / "a.txt"
    runtime.write_text(path, "first\n")
    with pytest.raises(UnicodeEncodeError):
        runtime.write_text(path, "second \ud800")
    assert path.read_bytes() == b"first\n"
    assert list(path.parent.iterdir()) == [path]


def cluster(*workers, kind="worker", index=0, chief=()):
    """The text of a TF_CONFIG."""
    machines = {"worker": list(workers)} | ({"chief": list(chief)} if chief else {})
    return json.dumps({"cluster": machines, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (None, (0, 1)),
        (cluster("a:1"), (0, 1)),
        (cluster("a:1", "b:1", index=1), (1, 2)),
        (cluster("b:1", "c:1", chief=["a:1"], kind="chief"), (0, 3)),
        (cluster("b:1", "c:1", chief=["a:1"], index=1), (2, 3)),
    ],
)
def test_worker_counts_the_chief_first(monkeypatch, text, place):
    if text:
        monkeypatch.setenv("TF_CONFIG", text)
    assert runtime.worker() == place


@pytest.mark.parametrize("change", [{"kind": "ps"}, {"index": 2}, {"index": -1}])
def test_worker_refuses_a_task_that_is_not_in_the_cluster(monkeypatch, change):
    monkeypatch.setenv("TF_CONFIG", cluster("a:1", "b:1", **change))
    with pytest.raises(ValueError, match="TF_CONFIG: expected a 'task'"):
        runtime.worker()


def test_only_the_chief_writes_to_the_runs_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path))
    monkeypatch.setenv("TF_CONFIG", cluster("a:1", "b:1", index=0))
    assert runtime.runs_folder() == tmp_path
    monkeypatch.setenv("TF_CONFIG", cluster("a:1", "b:1", index=1))
    other = runtime.runs_folder()
    assert other != tmp_path and other.is_dir() and other == runtime.runs_folder()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_cpu_replicas_is_a_whole_number(monkeypatch, text):
    monkeypatch.setenv("IMAGEGEN_CPU_REPLICAS", text)
    with pytest.raises(ValueError, match="IMAGEGEN_CPU_REPLICAS is .*, expected a whole number"):
        runtime.cpu_replicas()


SETUP = """
import sys
from imagegen_tf import runtime
first = runtime.setup(seed=1, precision="mixed_bfloat16", profile="full")
print(first.strategy.__class__.__name__, first.num_replicas, first.policy, first.is_chief)
print(first.pick(quick=1, full=2), runtime.pick(quick=1, full=2))
import keras
print(keras.config.dtype_policy().name)
drawn = [float(keras.random.normal(())) for _ in range(2)]
assert runtime.setup(seed=1, precision="mixed_bfloat16") is first
assert float(keras.random.normal(())) == drawn[0]
try:
    runtime.setup(seed=2)
except RuntimeError as error:
    print(error)
"""


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


def test_setup_prepares_two_replicas_in_silence():
    printed, errors = new_process(SETUP, IMAGEGEN_CPU_REPLICAS="2")
    assert errors == ""
    assert printed[:3] == ["MirroredStrategy 2 mixed_bfloat16 True", "2 2", "mixed_bfloat16"]
    assert "setup was called before" in printed[3] and "restart the kernel" in printed[3]


def test_training_in_bfloat16_writes_nothing_to_the_error_stream(tmp_path):
    script = (
        "import sys\n"
        "import numpy as np\n"
        "from imagegen_tf import runtime\n"
        "run = runtime.setup(precision='mixed_bfloat16')\n"
        "from imagegen_tf import datasets, training\n"
        f"sys.path.insert(0, {str(runtime.repository() / 'tests')!r})\n"
        "import notebook_cells\n"
        "gan = notebook_cells.load('04').build_gan(run.strategy, 64, 28, 1)\n"
        "some = datasets.Dataset('grey', 'train', np.zeros((128, 28, 28, 1), np.uint8))\n"
        f"training.fit(gan, datasets.batches(some, 64), 2, {str(tmp_path)!r})\n"
        "print(int(gan.step.numpy()))"
    )
    printed, errors = new_process(script)
    assert (errors, printed) == ("", ["2"])


def test_setup_says_that_tensorflow_was_at_work_before():
    script = (
        "from imagegen_tf import runtime\nwith runtime.quiet(): import tensorflow as tf\n"
        "tf.zeros(1)\nruntime.setup()"
    )
    _, errors = new_process(script, IMAGEGEN_CPU_REPLICAS="2")
    assert errors.splitlines()[-1].startswith("RuntimeError: TensorFlow was at work before setup")


def test_setup_refuses_another_backend(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(RuntimeError, match="Keras runs on jax, .* unset KERAS_BACKEND"):
        runtime.setup()


def test_setup_refuses_other_profiles():
    with pytest.raises(ValueError, match="profile is 'fast', expected 'quick' or 'full'"):
        runtime.setup(profile="fast")


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.txt"
    with pytest.raises(
        OSError, match=r"a\.txt could not be written \((Not a directory|File exists)\)"
    ):
        runtime.write_text(path, "text")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
