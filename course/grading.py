"""The graded labs: the students' version of each, and the marks of what students hand in.

All the work is nbgrader's, in a course folder that exists only while a command runs. Students'
code runs on this machine, with the rights of whoever calls `grade`.
"""

import csv
import io
import locale
import os
import re
import shutil
import sysconfig
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
from tqdm import tqdm

from imagegen_tf import runtime

FOLDER = runtime.repository() / "notebooks" / "labs"
STUB = "# your code here"  # stands where the solution stood; a comment, so that cells still run
CELL_SECONDS = 120  # a cell that takes longer is stopped, and its task gets no points


@dataclass(frozen=True)
class Mark:
    """The points of one student for one task."""

    student: str
    lab: str
    task: str
    points: float
    most: float


def names():
    """List the labs in order.

    Returns:
        list of str, such as "01_noise_images".
    """
    return sorted(path.stem for path in FOLDER.glob("[0-9][0-9]_*.ipynb"))


def student(folder=None):
    """Write what students get of every lab: no solution, no hidden test, no output.

    Files of these names are overwritten; work on copies.

    Args:
        folder: where to; IMAGEGEN_RUNS/student if None.
    Returns:
        list of pathlib.Path, one for each lab.
    Raises:
        ValueError: nbgrader is not installed, or refuses a lab; the message says why.
    """
    folder = Path(folder or runtime.runs_folder() / "student")
    written = []
    with _course(names()) as (root, _):
        for name in names():
            text = (root / "release" / name / f"{name}.ipynb").read_text(encoding="utf-8")
            written.append(folder / f"{name}.ipynb")
            runtime.write_text(written[-1], text.rstrip("\n") + "\n")
    return written


def grade(submissions, folder=None):
    """Grade what students handed in, and write marks.csv (labs) and tasks.csv (tasks).

    A lab that a student did not hand in has no line. What cannot be graded, such as a damaged
    file, is named in the problems and does not stop the rest.

    Args:
        submissions: folder with one folder for each student, named after the student, and in it
            the labs under their own names: STUDENT/01_noise_images.ipynb.
        folder: where the marks go; IMAGEGEN_RUNS/grades if None.
    Returns:
        (marks, problems): list of Mark, and list of str.
    Raises:
        ValueError: no such folder, no lab in it, or nbgrader is not installed.
    """
    handed_in, problems = _find(Path(submissions))
    marks = []
    with _course(sorted({path.stem for _, path in handed_in})) as (root, api):
        for who, path in tqdm(handed_in, desc="grading", unit="lab", leave=False, disable=None):
            place = root / "submitted" / who / path.stem
            place.mkdir(parents=True)
            try:
                notebook, missing = _mended(path, root / "release" / path.stem / path.name)
            except (OSError, ValueError) as error:
                problems.append(f"{who}/{path.name} was not graded: {error}")
                continue
            problems += [f"{who}/{path.name}: cell {name} is missing" for name in missing]
            nbformat.write(notebook, place / path.name)
            with runtime.quiet():
                result = api.autograde(path.stem, who)
                marks += _marks(api, who, path.stem) if result["success"] else []
            if not result["success"]:
                problems.append(f"{who}/{path.name} was not graded: {_reason(result)}")
    folder = Path(folder or runtime.runs_folder() / "grades")
    lines = [(m.student, m.lab, m.task, m.points, m.most) for m in marks]
    _write(folder / "tasks.csv", ("student", "lab", "task", "points", "most"), lines)
    lines = [(*key, *values) for key, values in totals(marks).items()]
    _write(folder / "marks.csv", ("student", "lab", "points", "most"), lines)
    return marks, problems


def totals(marks):
    """Add up the points of each student in each lab.

    Args:
        marks: list of Mark.
    Returns:
        dict of (student, lab) to (points, most).
    Example:
        >>> totals([Mark("ada", "01", "a", 2, 2), Mark("ada", "01", "b", 0, 3)])
        {('ada', '01'): (2, 5)}
    """
    sums = {}
    for mark in marks:
        points, most = sums.get((mark.student, mark.lab), (0, 0))
        sums[mark.student, mark.lab] = points + mark.points, most + mark.most
    return sums


def table(marks):
    """Write the marks as a table: a line for each student, a column for each lab.

    Args:
        marks: list of Mark.
    Returns:
        str.
    Example:
        >>> print(table([Mark("ada", "01_noise_images", "a", 2, 3)]))
        student  01   sum
        ada      2/3  2/3
    """
    sums = totals(marks)
    labs = sorted({lab for _, lab in sums})
    rows = [["student", *(lab[:2] for lab in labs), "sum"]]
    for who in sorted({student for student, _ in sums}):
        own = [sums.get((who, lab)) for lab in labs]
        both = [sum(column) for column in zip(*filter(None, own), strict=True)]
        rows.append([who, *("-" if one is None else "{:g}/{:g}".format(*one) for one in own)])
        rows[-1].append("{:g}/{:g}".format(*both))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


@contextmanager
def _surroundings():
    """Let nbgrader find alembic, which it calls by its bare name, and alembic read any path.

    Alembic reads a file with this folder's path in the locale's encoding: with LC_ALL=C, in ASCII.
    """
    before = {name: os.environ.get(name) for name in ("PATH", "LC_ALL")}
    scripts = sysconfig.get_path("scripts")
    os.environ["PATH"] = os.pathsep.join([scripts, before["PATH"] or ""])
    if os.name == "posix" and locale.getencoding().lower() not in ("utf-8", "utf8"):
        os.environ["LC_ALL"] = "C.UTF-8"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _course(labs):
    """Release these labs in nbgrader's folders, in a temporary place; yield that and its API."""
    try:
        from nbgrader.apps import NbGraderAPI
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the labs need a package that is not here ({error.name}); install it with: "
            ".venv/bin/python -m pip install -e '.[teach]'"
        ) from None
    from traitlets.config import Config

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # kernels of this environment come first
    with tempfile.TemporaryDirectory() as place, _surroundings():
        config = Config()
        config.CourseDirectory.root = place
        config.ClearSolutions.code_stub = {"python": STUB}
        config.Execute.timeout = CELL_SECONDS
        api = NbGraderAPI(config=config)
        for name in labs:
            source = Path(place) / "source" / name
            source.mkdir(parents=True)
            shutil.copy(FOLDER / f"{name}.ipynb", source)
            result = api.generate_assignment(name)
            if not result["success"]:
                raise ValueError(f"nbgrader refuses {name}: {_reason(result)}")
        yield Path(place), api


def _find(submissions):
    """List (student, path) of each lab that was handed in, and what else lies there."""
    if not submissions.is_dir():
        raise ValueError(f"there is no folder {submissions}")
    found, problems, known = [], [], names()
    for path in sorted(submissions.glob("[!.]*/[!.]*.ipynb")):
        who = path.parent.name
        if path.stem in known:
            found.append((who, path))
        else:
            problems.append(f"{who}/{path.name} is no lab; labs are named as in notebooks/labs")
    if not found:
        raise ValueError(f"no lab in {submissions}, expected files as STUDENT/{known[0]}.ipynb")
    return found, problems


def _mended(path, original):
    """Read what a student handed in, with nbgrader's marks on the cells that they belong to.

    A copy of a cell becomes a plain one, which is executed like the others; a check that was
    deleted comes back.

    Returns:
        (notebook, names of the answers that are missing).
    Raises:
        ValueError: no notebook. OSError: it cannot be read.
    """
    text = path.read_bytes().decode("utf-8", errors="replace")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a copy's name, which stands there twice
            notebook = nbformat.reads(text, as_version=4)
            cells = list(notebook.cells)
    except Exception as error:  # nbformat raises many kinds
        raise ValueError(f"it is no notebook ({type(error).__name__})") from None
    known = {cell.metadata.nbgrader.grade_id: cell for cell in nbformat.read(original, 4).cells}
    seen = set()
    for cell in cells:
        name = cell.metadata.pop("nbgrader", {}).get("grade_id", cell.get("id"))
        if name in known and name not in seen:
            cell.metadata["nbgrader"] = known[name].metadata.nbgrader
            seen.add(name)
    place, missing = 0, []
    for name, cell in known.items():
        if name in seen:
            graded = [each.metadata.get("nbgrader", {}).get("grade_id") for each in cells]
            place = graded.index(name) + 1
        elif cell.metadata.nbgrader.grade:
            cells.insert(place, cell)
            place += 1
        elif cell.metadata.nbgrader.solution:
            missing.append(name)
    notebook.cells = cells
    return notebook, missing


def _marks(api, who, lab):
    """Read the marks of one lab of one student, in the order of the tasks."""
    with api.gradebook as gradebook:
        order = [cell.name for cell in gradebook.find_notebook(lab, lab).grade_cells]
        grades = gradebook.find_submission_notebook(lab, lab, who).grades
        grades = sorted(grades, key=lambda one: order.index(one.name))
        return [
            Mark(who, lab, one.name.removeprefix("test-"), one.score, one.max_score)
            for one in grades
        ]


def _reason(result):
    """Find in what nbgrader reports the error that stopped it."""
    text = f"{result.get('error') or ''}\n{result.get('log') or ''}"
    errors = re.findall(r"^ *(?:\w+\.)*(\w+Error: .+)$", text, re.MULTILINE)
    return errors[-1] if errors else text.strip().splitlines()[-1]


def _write(path, header, lines):
    """Write a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    runtime.write_text(path, text.getvalue())
