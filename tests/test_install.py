"""The package works where it was installed, too, and not only in a checkout."""

import os
import shutil
import subprocess
import sys

import pytest

from imagegen_tf import runtime

ROOT = runtime.repository()
PROGRAM = """
import pathlib, imagegen_tf
from course import cli
from imagegen_tf import datasets, runtime, weights
print(pathlib.Path(imagegen_tf.__file__).parent.parent.name, runtime.repository())
print(datasets.load("digits", "test").images.shape)
try:
    print(weights.path("features_digits").name)
except FileNotFoundError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install a copy into a folder of its own, without the network; give the folder."""
    folder = tmp_path_factory.mktemp("install")
    for name in ("imagegen_tf", "course"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    options = (
        "--quiet --no-index --no-deps --no-build-isolation --disable-pip-version-check".split()
    )
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site")]
    subprocess.run([*command, str(folder / "source")], check=True, capture_output=True)
    return folder / "site"


def run(installed, where):
    """Run the program in a folder with the installed package; give its lines."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=where,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_in_the_course_an_installed_package_finds_what_is_shipped(installed):
    place, shape, network = run(installed, ROOT / "notebooks" / "labs")
    assert place == f"site {ROOT}"
    assert shape == "(10000, 28, 28, 1)"
    assert network == "features_digits.keras"


def test_elsewhere_it_works_and_says_which_networks_are_missing(installed, tmp_path):
    place, shape, message = run(installed, tmp_path)
    assert place == f"site {tmp_path}"
    assert shape == "(10000, 28, 28, 1)"
    assert "features_digits.keras: no such shipped network; there are: none" in message
