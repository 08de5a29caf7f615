"""README, TEACHING and CONTRIBUTING: every command in them exists, and is tried or has a reason.

The short ones are run here as they stand. The others are run by the test that is named, or by
nobody, for the reason that is given.
"""

import os
import re
import shlex
import subprocess

import pytest

from course import cli
from imagegen_tf import runtime

ROOT = runtime.repository()
DOCUMENTS = ("README.md", "TEACHING.md", "CONTRIBUTING.md")
RUN_HERE = ("make student", "make results")
ELSEWHERE = {
    "make lock": "it asks the package index what is new",
    "cp notebooks/template/chapter.ipynb notebooks/14_topic.ipynb": "make test runs the template",
    "make lab": "test_course.py starts JupyterLab with its arguments; make test-browser uses it",
    "make test": "this is what runs now",
    "make check CHAPTER=02": "a part of make test",
    "make notebooks": "test_course.py, on small notebooks; all of them take most of an hour",
    "make notebooks CHAPTER=02": "test_course.py, on small notebooks",
    "make bench FAST=1": "test_benchmarks.py, part by part; ten minutes on a quiet machine",
    "make site": "test_website.py",
    "make test-browser": "needs Chromium and a quarter of an hour; a job of the workflow calls it",
    "make grade SUBMISSIONS=handed_in": "test_labs.py",
    "make wheelhouse": "needs the network",
    "make install WHEELS=build/wheelhouse": "needs what make wheelhouse has collected",
    "conda env create -f environment.yml": "needs conda and the network",
    "conda activate imagegen-tf": "needs conda",
    "python -m pip install --no-deps --no-build-isolation -e .": "make install does it",
    "python -m imagegen_tf lab": "as make lab",
    "python -m imagegen_tf test": "as make test",
    "python -m imagegen_tf run 14 --keep --seeds 0 1 2": "there is no chapter 14 yet",
    "python -m imagegen_tf run 04": "test_machines.py trains on two machines that are processes",
}


def commands(name):
    """List the commands of a document's blocks, without remarks and settings."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            line = re.sub(r"\s+# .*$", "", line).strip()
            words = shlex.split(line)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                found.append(" ".join(words))
    return found


EVERY = sorted({command for name in DOCUMENTS for command in commands(name)})


def test_each_command_is_tried_or_has_a_reason():
    assert set(EVERY) == set(RUN_HERE) | set(ELSEWHERE)


@pytest.mark.parametrize("command", [one for one in EVERY if one.startswith("make ")])
def test_make_knows(command):
    words = shlex.split(command)
    done = subprocess.run(
        [words[0], "-n", "-o", "install", *words[1:]],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.parametrize("command", [one for one in EVERY if "-m imagegen_tf" in one])
def test_the_module_knows(command):
    words = shlex.split(command)[3:]
    assert callable(cli.parser().parse_args(words).action)


@pytest.mark.parametrize("command", RUN_HERE)
@pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="installed without make")
def test_it_runs_as_it_stands(command, tmp_path):
    words = shlex.split(command)
    before = (ROOT / "RESULTS.md").read_bytes()
    done = subprocess.run(
        [words[0], "-o", "install", *words[1:]],
        cwd=ROOT,
        env=os.environ | {"IMAGEGEN_RUNS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout, done.stderr
    assert (ROOT / "RESULTS.md").read_bytes() == before


def test_what_the_text_calls_a_file_is_there():
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        paths = re.findall(r"`((?:tests|imagegen_tf|notebooks|data|site)/[\w./-]+)`", text)
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
        for path in {*paths, *links}:
            assert (ROOT / path).exists() or "NN_topic" in path, f"{name}: {path}"


def test_the_versions_agree():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in citation
    assert f"\nlicense: {project['license']}\n" in citation
