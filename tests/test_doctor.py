"""machine: the report that people send when they ask for help."""

import re
import subprocess
import sys

import pytest

from course import cli, doctor


@pytest.fixture
def known_machine(monkeypatch):
    """A machine with plenty of everything and no GPU; tests take something away."""
    monkeypatch.setattr(doctor, "_gpus", list)
    monkeypatch.setattr(doctor, "_cores", lambda: 8)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setattr(doctor.runtime, "cpu_flags", lambda: {"avx2", "amx_bf16"})
    for name in ("TF_CONFIG", "IMAGEGEN_CPU_REPLICAS", "IMAGEGEN_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def report():
    """The report as {name: (value, advice)}."""
    return {name: (value, advice) for name, value, advice in doctor.examine()}


def test_report_says_what_setup_chooses(known_machine, monkeypatch):
    lines = report()
    assert lines["strategy"][0].startswith("default: ")
    assert lines["precision"][0].startswith("mixed_bfloat16: ")
    monkeypatch.setattr(doctor, "_gpus", lambda: [("T4", (7, 5)), ("T4", (7, 5))])
    lines = report()
    assert lines["GPU 1"] == ("T4", "")
    assert "GPU" not in lines
    assert lines["strategy"][0].startswith("MirroredStrategy: 2 GPUs")
    assert lines["precision"][0].startswith("mixed_float16: ")


def test_report_advises_where_something_is_missing(known_machine, monkeypatch):
    assert report()["GPU"][1] != ""
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "nvidia-smi")
    assert "make install GPU=1" in report()["GPU"][1]
    monkeypatch.setattr(doctor, "_cores", lambda: 1)
    assert report()["cores"][1] != ""
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package"))
    assert report()["numpy"][1] == ""
    assert report()["no-such-package"] == ("missing", "Install the course again: make install")


def test_report_on_windows_names_wsl2(known_machine, monkeypatch):
    monkeypatch.setattr(doctor.platform, "system", lambda: "Windows")
    lines = report()
    assert "WSL2" in lines["GPU"][1]
    assert lines["processor"][0] == "not known"


def test_table_is_aligned_and_wraps_advice():
    text = doctor.table([("a", "1", ""), ("long name", "2", "word " * 40)])
    lines = text.splitlines()
    assert lines[:2] == ["a          1", "long name  2"]
    assert all(line.startswith("           ") for line in lines[2:])
    assert max(map(len, lines)) < 100


def test_doctor_prints_a_table_without_paths_or_log():
    command = [sys.executable, "-m", "imagegen_tf", "doctor"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    assert re.search(r"^tensorflow +2\.21", result.stdout, re.MULTILINE)
    assert re.search(r"^strategy +\w+: ", result.stdout, re.MULTILINE)
    assert not re.search(r"(^|\s)(/|[A-Z]:\\)\w", result.stdout)


def test_doctor_says_in_a_sentence_that_tensorflow_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # import raises ImportError
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err.startswith("TensorFlow cannot be imported (")
