"""runtime: settings from outside, folders, quiet imports, set-up of devices."""

import os
import subprocess
import sys

import pytest

from imagegen_tf import runtime

@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """Start every test without settings from outside."""
    for name in ("IMAGEGEN_PROFILE", "IMAGEGEN_RUNS", "IMAGEGEN_DATA"):
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
    assert runtime.runs_folder() == runtime.REPOSITORY / "runs"
    assert runtime.data_folder() is None
    monkeypatch.setenv("IMAGEGEN_RUNS", "elsewhere/today")
    monkeypatch.setenv("IMAGEGEN_DATA", "../pictures")
    assert runtime.runs_folder() == runtime.REPOSITORY / "elsewhere" / "today"
    assert runtime.data_folder() == runtime.REPOSITORY / ".." / "pictures"
    assert (runtime.REPOSITORY / "pyproject.toml").exists()


def test_absolute_folders_stay(monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path))
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path))
    assert runtime.runs_folder() == runtime.data_folder() == tmp_path


def test_empty_settings_count_as_not_set(monkeypatch):
    for name in ("IMAGEGEN_PROFILE", "IMAGEGEN_RUNS", "IMAGEGEN_DATA"):
        monkeypatch.setenv(name, "")
    assert runtime.profile() == "quick"
    assert runtime.runs_folder() == runtime.REPOSITORY / "runs"
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
