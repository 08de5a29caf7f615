"""What one does with the course: open it, run chapters, test all, refresh stored outputs.

`python -m imagegen_tf` calls these functions, and make calls that.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import nbformat
import psutil
from tqdm import tqdm

from course import parameters, site
from imagegen_tf import runtime

ROOT = runtime.repository()
NOTEBOOKS = ROOT / "notebooks"
TEMPLATE = NOTEBOOKS / "template" / "chapter.ipynb"
# Everything from outside that changes what a chapter does; tests and stored outputs ignore it.
SETTINGS = (
    "IMAGEGEN_CPU_REPLICAS",
    "IMAGEGEN_DATA",
    "IMAGEGEN_PROFILE",
    "IMAGEGEN_RUNS",
    "TF_CONFIG",
)
CELL_SECONDS = 1200  # a cell of a test that takes longer hangs
ALONE = ("13_scaling_up",)  # measures how fast processes are, so nothing else may run
# What a cell is, and whether its heading is folded; all else is of one run or one editor.
CELL_METADATA = ("jp-MarkdownHeadingCollapsed", "jupyter", "tags")
# Nothing is fetched, and nobody is asked whether it may be.
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


@dataclass(frozen=True)
class Outcome:
    """How a chapter went; `cell` and `error` say where and why it failed, None if it did not."""

    chapter: str
    minutes: float
    cell: str | None = None
    error: str | None = None
    processor_minutes: float = 0.0  # of all cores together; 0 on Windows, which does not tell

    @property
    def status(self):
        """Say "passed" or "failed"."""
        return "passed" if self.error is None else "failed"


def chapters(names=(), folder=None):
    """List the chapters' notebooks in order: all, or those that are named.

    Args:
        names: each a number (`02`), a topic (`image_editing`) or both (`02_image_editing`).
        folder: where the notebooks are; `notebooks` if None.
    Returns:
        list of pathlib.Path, each chapter once.
    Raises:
        ValueError: no such chapter.
    """
    every = sorted((folder or NOTEBOOKS).glob("[0-9][0-9]_*.ipynb"))
    if not every:
        raise ValueError("there are no chapters in the folder notebooks")
    chosen = set()
    for name in names:
        wanted = name.removesuffix(".ipynb")
        wanted = wanted.zfill(2) if wanted.isdecimal() else wanted
        matches = [path for path in every if wanted in (path.stem, path.stem[:2], path.stem[3:])]
        if not matches:
            known = ", ".join(path.stem for path in every)
            raise ValueError(f"there is no chapter {name!r}, expected one of {known}")
        chosen.update(matches)
    return [path for path in every if path in chosen or not names]


def prepare(path, settings):
    """Read a chapter with its parameters overridden and its old outputs gone.

    Args:
        path: of the notebook.
        settings: dict of parameter name to value.
    Returns:
        nbformat notebook.
    Raises:
        ValueError: a name that the parameters cell does not have, or no such cell.
    """
    notebook = nbformat.read(path, as_version=4)
    try:
        parameters.override(notebook, settings)
    except ValueError as error:
        raise ValueError(str(error).replace("the notebook", path.stem)) from None
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def run(paths, settings=None, kept=None):
    """Execute chapters and keep an executed copy and a web page of each in the runs folder.

    A chapter that fails does not stop the others. Its page and copy show the error.

    Args:
        paths: notebooks, as `chapters` lists them.
        settings: dict of parameter name to value, for all of them.
        kept: called after each chapter with its path, the settings and its Outcome.
    Returns:
        list of Outcome.
    Raises:
        ValueError: a setting that one of the chapters does not have; then none is run.
    """
    settings = settings or {}
    chapters_to_run = {path: prepare(path, settings) for path in paths}
    runs, profile = runtime.runs_folder(), runtime.profile()

    def keep(path, notebook, outcome):
        values = parameters.typed(nbformat.read(path, as_version=4), settings)
        notebook.metadata["imagegen"] = {
            "status": outcome.status,
            "minutes": round(outcome.minutes, 2),
            "profile": profile,
            "settings": {name: str(value) for name, value in values.items()},
        }
        runtime.write_text(runs / path.stem / path.name, as_text(notebook))
        if kept:
            kept(path, values, outcome)

    try:
        return _execute(chapters_to_run, os.environ | {"IMAGEGEN_PROFILE": profile}, keep)
    finally:  # of what was executed before an interruption, too
        if runs.exists():
            site.pages(_history(paths[0].parent, runs), runs / "pages")


def refresh(paths):
    """Execute chapters in place, in the quick profile, and store their outputs.

    What differs between machines and runs is left out: timings, versions of the interpreter. A
    chapter that fails keeps its file as it was.

    Args:
        paths: notebooks, as `chapters` lists them.
    Returns:
        list of Outcome.
    """

    def store(path, notebook, outcome):
        if outcome.error is None:
            runtime.write_text(path, as_text(notebook))

    return _execute({path: prepare(path, {}) for path in paths}, _default_environment(), store)


def explain(outcomes):
    """Say which cells failed, each with the last lines of its error.

    Args:
        outcomes: list of Outcome.
    Returns:
        str, empty if none failed.
    """
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    texts = []
    for outcome in failed:
        lines = "\n".join(f"    {line}" for line in outcome.error.splitlines()[-8:])
        texts.append(f"{outcome.chapter} failed in {outcome.cell}:\n{lines}")
    return "\n\n".join(texts)


def open_jupyterlab(arguments=()):
    """Start JupyterLab at the first chapter; returns when it is stopped.

    Args:
        arguments: passed on to JupyterLab, for example ["--no-browser", "--port", "9999"].
    """
    from jupyterlab.labapp import LabApp

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # kernels of this environment come first
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    print("Starting JupyterLab; Ctrl-C here stops it.", flush=True)
    with tempfile.TemporaryDirectory() as settings:
        runtime.write_text(f"{settings}/overrides.json", json.dumps(LAB_SETTINGS))
        options = [
            f"--ServerApp.root_dir={runtime.repository()}",
            f"--LabApp.app_settings_dir={settings}",
            "--MappingKernelManager.transport_encryption=auto",  # else every kernel warns
        ]
        LabApp.launch_instance([str(NOTEBOOKS / "00_start_here.ipynb"), *options, *arguments])


def test(chapter=None):
    """Check everything: style, unit tests, and every chapter from top to bottom.

    The network is closed where the system can do that, for chapters must run without it.

    Args:
        chapter: pathlib.Path of the only notebook to execute, or None for all.
    Returns:
        True if all passed.
    """
    python = [sys.executable, "-m"]
    prefix = _closed_network()
    if not prefix:
        print("The network stays open: this system cannot close it for a command.", flush=True)
    every = [chapter] if chapter else [*chapters(), TEMPLATE]
    alone = [path for path in every if chapter or path.stem in ALONE]
    beside = [str(path) for path in every if path not in alone]
    pytest = [*prefix, *python, "pytest", "--nbval-lax", "--nbval-current-env"]
    pytest.append(f"--nbval-cell-timeout={CELL_SECONDS}")
    # fmt: off
    commands = [
        [*python, "ruff", "check", "--quiet", "."],
        [*python, "ruff", "format", "--quiet", "--check", "."],
        [*pytest, "--doctest-modules", f"--numprocesses={_workers()}", "--dist=loadscope",
         "imagegen_tf", "course", "tests", *beside],
        [*pytest, *map(str, alone)],
    ]
    # fmt: on
    with tempfile.TemporaryDirectory() as runs:
        environment = _default_environment() | {"IMAGEGEN_RUNS": runs}
        codes = [
            subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
            for command in commands
        ]
    return not any(codes)


def _default_environment():
    """Copy the environment without our settings: quick, default data, one replica."""
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return environment | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def _workers():
    """Give how many files are tested at once: one for each core, as far as memory goes."""
    return max(1, min(4, os.cpu_count() or 1, int(psutil.virtual_memory().total / 4e9)))


def _closed_network():
    """Return what to put before a command to run it without a network, [] where that fails."""
    if not shutil.which("unshare"):
        return []
    script = 'ip link set lo up && exec "$@"'  # kernels talk to their notebook over loopback
    prefix = ["unshare", "--map-root-user", "--net", "sh", "-c", script, "sh"]
    probe = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    return prefix if probe.returncode == 0 else []


def _execute(notebooks, environment, finish):
    """Execute {path: notebook} under a progress bar; call finish(path, notebook, outcome)."""
    outcomes, done = [], 0
    total = sum(len(notebook.cells) for notebook in notebooks.values())
    layout = "{desc} |{bar:20}| {elapsed}"
    with tqdm(total=total, bar_format=layout, leave=False, disable=None) as bar:
        for number, (path, notebook) in enumerate(notebooks.items(), 1):
            place = f"{path.stem} (chapter {number} of {len(notebooks)})"
            show = functools.partial(_show, bar, place, done, len(notebook.cells))
            start, before = time.monotonic(), _processor_minutes()
            cell, error = _execute_cells(notebook, path.parent, environment, show)
            minutes, spent = (time.monotonic() - start) / 60, _processor_minutes() - before
            outcome = Outcome(path.stem, minutes, cell, error, spent)
            finish(path, notebook, outcome)
            outcomes.append(outcome)
            done += len(notebook.cells)
            bar.write(f"{outcome.chapter:24} {outcome.status} after {outcome.minutes:.1f} min")
    return outcomes


def _processor_minutes():
    """Give the processor time of all kernels that have ended."""
    times = os.times()
    return (times.children_user + times.children_system) / 60


def _show(bar, place, done, cells, cell):
    """Show on the bar that this cell of a chapter begins."""
    bar.n = done + cell - 1
    bar.set_description_str(f"{place}, cell {cell} of {cells}")


def _execute_cells(notebook, folder, environment, show):
    """Execute the cells in a new kernel; return which cell failed and its error, or two None."""
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    # Without folders to look in, the only kernel left is the one of this very interpreter.
    specs = KernelSpecManager(kernel_dirs=[])
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=specs,
            transport_encryption="auto",  # without it every kernel prints a warning
        ),
        coalesce_streams=True,
        record_timing=False,
        store_widget_state=False,  # a page without a network shows a widget's text instead
    )
    quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with (
        tempfile.TemporaryFile() as log,  # kernels complain when they end, for nobody to read
        client.setup_kernel(cleanup_kc=True, cwd=str(folder), env=environment | quiet, stderr=log),
    ):
        for number, cell in enumerate(notebook.cells, 1):
            show(number)
            where = f"cell {number} of {len(notebook.cells)}"
            try:
                client.execute_cell(cell, number - 1)
            except CellExecutionError as error:
                where = f"{where} (In [{cell.execution_count}])"
                return where, re.sub(r"\x1b\[[0-9;]*m", "", error.traceback).strip()
            except KeyboardInterrupt:
                client.shutdown_kernel = "immediate"  # a polite kernel would complain
                raise
            except DeadKernelError:
                log.seek(0)
                last_words = log.read().decode(errors="replace")
                return where, f"{last_words}The kernel died; often that means that memory ran out."
    return None, None


def as_text(notebook):
    """Write a notebook as text, without what differs between machines and runs."""
    notebook = nbformat.from_dict(notebook)
    kept = notebook.metadata.get("imagegen")
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
        | ({"imagegen": kept} if kept else {})
    )
    for cell in notebook.cells:
        kept = {name: cell.metadata[name] for name in CELL_METADATA if cell.metadata.get(name)}
        cell.metadata = nbformat.from_dict(kept)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def _history(folder, runs):
    """Give (executed copy, status, profile and settings, minutes) of every chapter's latest run."""
    rows = {}
    for path in chapters(folder=folder):
        copy, row = runs / path.stem / path.name, (None, "not run", "", None)
        if copy.exists():
            run = nbformat.read(copy, as_version=4).metadata.get("imagegen", {})
            changed = [f"{name}={value}" for name, value in run.get("settings", {}).items()]
            row = (copy, run["status"], " ".join([run["profile"], *changed]), run["minutes"])
        rows[path.stem] = row
    return rows
