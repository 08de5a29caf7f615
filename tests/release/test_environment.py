"""pyproject.toml, the locks, environment.yml and the Makefile say the same."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from imagegen_tf import runtime

ROOT = runtime.repository()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = {
    "Linux": {"sys_platform": "linux", "os_name": "posix", "platform_machine": "x86_64"},
    "macOS": {"sys_platform": "darwin", "os_name": "posix", "platform_machine": "arm64"},
    "Windows": {"sys_platform": "win32", "os_name": "nt", "platform_machine": "AMD64"},
}
LOCKS = {
    "requirements.lock": ("dev", "teach"),
    "requirements-gpu.lock": ("dev", "teach", "gpu"),
}
BROWSER_LOCK = "requirements-browser.lock"
SETTINGS_FILES = ("pyproject.toml", "Makefile", "environment.yml", ".ci/run", *LOCKS, BROWSER_LOCK)


def read(name):
    """Text of a file in the repository's root."""
    return (ROOT / name).read_text(encoding="utf-8")


def pins(name):
    """The pins of a lock as a list of (Requirement, its hashes)."""
    text = re.sub(r"^\s*#.*\n", "", read(name), flags=re.MULTILINE).replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        pin, *hashes = re.split(r"\s+--hash=", line.strip())
        found.append((Requirement(pin), hashes))
    return found


def marker_values(python, platform):
    """What markers are compared with on this Python and platform."""
    return {
        **PLATFORMS[platform],
        "platform_system": platform.replace("macOS", "Darwin"),
        "python_version": python,
        "python_full_version": f"{python}.7",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


def applying(requirements, values):
    """Those requirements whose markers hold."""
    return [each for each in requirements if each.marker is None or each.marker.evaluate(values)]


def asked_for(lock):
    """What pyproject.toml asks a lock to hold: core, build backend, and the lock's extras."""
    texts = PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"]
    texts += [text for extra in LOCKS[lock] for text in EXTRAS[extra]]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_has_one_pin_that_fits(lock, python, platform):
    values = marker_values(python, platform)
    pinned = applying([pin for pin, _ in pins(lock)], values)
    names = [canonicalize_name(pin.name) for pin in pinned]
    assert len(names) == len(set(names))
    versions = dict(zip(names, pinned, strict=True))
    for wanted in applying(asked_for(lock), values):
        (exact,) = versions[canonicalize_name(wanted.name)].specifier
        assert exact.operator == "=="
        assert wanted.specifier.contains(exact.version), f"{wanted} but {exact}"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_has_hashes(lock):
    assert len(pins(lock)) > 100
    for pin, hashes in pins(lock):
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
        assert not pin.url and not pin.extras, pin
        assert hashes, pin
        for each in hashes:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", each), pin


def test_the_browsers_lock_adds_playwright_and_contradicts_nothing():
    (wanted,) = [Requirement(text) for text in PROJECT["dependency-groups"]["browser"]]
    found = {pin.name: pin for pin, hashes in pins(BROWSER_LOCK) if hashes}
    assert len(found) == len(pins(BROWSER_LOCK))
    (exact,) = found["playwright"].specifier
    assert wanted.name == "playwright" and wanted.specifier.contains(exact.version)
    common = {pin.name: str(pin.specifier) for pin, _ in pins("requirements.lock")}
    assert all(
        str(pin.specifier) == common.get(name, str(pin.specifier)) for name, pin in found.items()
    )


def test_the_gpu_lock_is_the_other_and_nvidias_packages():
    common = {str(pin) for pin, _ in pins("requirements.lock")}
    gpu = {str(pin) for pin, _ in pins("requirements-gpu.lock")}
    assert common <= gpu
    more = {pin.split("==")[0] for pin in gpu - common}
    assert more and all(name.startswith("nvidia-") for name in more)


@pytest.mark.parametrize("name", SETTINGS_FILES)
def test_no_address_and_no_index(name):
    text = read(name)
    assert not re.findall(r"\bhttps?:|\bfile:|git\+", text)
    text = text.replace("--no-emit-index-url", "")
    assert not re.findall(r"--(?:extra-)?index-url\b|--find-links|^-i ", text, re.MULTILINE)


def test_a_python_without_the_packages_says_where_they_are():
    command = [sys.executable, "-S", "-c", "import imagegen_tf"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "source .venv/bin/activate" in done.stderr.splitlines()[-1]


def test_pythons_agree():
    wanted = SpecifierSet(PROJECT["project"]["requires-python"])
    fitting = [f"3.{minor}" for minor in range(20) if wanted.contains(f"3.{minor}.7")]
    assert fitting == list(PYTHONS)
    (conda,) = [line for line in conda_packages() if str(line).startswith("python")]
    assert SpecifierSet(conda.removeprefix("python")) == wanted
    makefile = read("Makefile")
    lowest, highest = (tuple(map(int, PYTHONS[i].split("."))) for i in (0, -1))
    assert f"{lowest} <= sys.version_info[:2] <= {highest}" in makefile
    assert f"--python-version {PYTHONS[0]}" in makefile
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + PYTHONS[0].replace(".", "")
    for python in PYTHONS:
        assert f"python{python}" in makefile


def conda_packages():
    """What environment.yml lists."""
    return yaml.safe_load(read("environment.yml"))["dependencies"]


def test_conda_brings_python_and_pip_and_the_lock_the_rest():
    python, pip, through_pip = conda_packages()
    assert python.startswith("python>") and pip == "pip"
    assert through_pip == {"pip": ["-r requirements.lock"]}
    assert "python -m pip install --no-deps --no-build-isolation -e ." in read("environment.yml")


@pytest.mark.parametrize("name", ["tensorflow", "keras"])
def test_tensorflow_and_keras_are_held_to_one_minor_version(name):
    # TensorFlow 2.21 asks for any keras >= 3.12, so pyproject.toml has to.
    (wanted,) = [each for each in asked_for("requirements.lock") if each.name == name]
    assert {specifier.operator for specifier in wanted.specifier} == {">=", "<"}
    low, high = sorted(Version(specifier.version) for specifier in wanted.specifier)
    assert (high.major, high.minor) == (low.major, low.minor + 1)


def test_what_is_installed_is_what_is_locked():
    wrong = {}
    for pin, _ in pins("requirements.lock"):
        if pin.marker is None or pin.marker.evaluate():
            installed = metadata.version(pin.name)
            if not pin.specifier.contains(installed):
                wrong[pin.name] = installed
    assert not wrong, "these are other versions than make install installs"
