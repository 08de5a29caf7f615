"""The graded labs: full marks for the solved one, none for the empty one, the right ones between.

Answers are graded here in one process, cell by cell as nbgrader does it, which takes seconds where
kernels take minutes. One lab goes all the way through nbgrader, with three submissions.
"""

import ast
import contextlib
import copy
import csv
import io
import os
import re
import shutil
import subprocess
import sys

import lab_answers
import nbformat
import pytest

from course import cli, grading, notebooks
from imagegen_tf import runtime

NAMES = grading.names()
KINDS = {  # of a cell's nbgrader metadata: (grade, solution, locked)
    "given": (False, False, True),
    "answer": (False, True, False),
    "test": (True, False, True),
}
SOLUTION = re.compile(r"^ *### BEGIN SOLUTION\n.*?^ *### END SOLUTION\n?", re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def one_process(float32, monkeypatch):
    """Keep labs from settling this process for good; where kernels run them, they do call setup."""
    monkeypatch.setattr(runtime, "setup", lambda seed, precision: None)


def read(name, folder=grading.FOLDER):
    """Read a lab."""
    return nbformat.read(folder / f"{name}.ipynb", as_version=4)


def kind(cell):
    """Say what a cell is to nbgrader."""
    about = cell.metadata["nbgrader"]
    flags = tuple(about[key] for key in ("grade", "solution", "locked"))
    return next(name for name, expected in KINDS.items() if expected == flags)


def grade_id(cell):
    """Name a cell as nbgrader does."""
    return cell.metadata["nbgrader"]["grade_id"]


def answers(notebook):
    """Collect the code of the cells that students write, by task."""
    return {grade_id(c): c.source for c in notebook.cells if kind(c) == "answer"}


def most(notebook):
    """Points of each task, by task."""
    cells = [cell for cell in notebook.cells if kind(cell) == "test"]
    return {task(cell): cell.metadata["nbgrader"]["points"] for cell in cells}


def task(cell):
    """Name the task that a test or a check belongs to."""
    return grade_id(cell).removeprefix("test-").removeprefix("check-")


def mark(name, written):
    """Grade answers, a dict of task to code: points by task, and messages of the checks."""
    names, points, messages = {"__name__": "lab"}, {}, {}
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in read(name).cells:
            if cell.cell_type != "code":
                continue
            source = written.get(grade_id(cell), cell.source)
            is_test, is_check = kind(cell) == "test", grade_id(cell).startswith("check-")
            try:
                exec(compile(source, f"{name}: {grade_id(cell)}", "exec"), names)
            except Exception as error:
                assert is_test or is_check or kind(cell) == "answer", error
                if is_check:
                    messages[task(cell)] = str(error) if type(error) is AssertionError else None
                elif is_test:
                    points[task(cell)] = 0
            else:
                if is_test:
                    points[task(cell)] = cell.metadata["nbgrader"]["points"]
    return points, messages


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The folder with the students' version of all labs, as nbgrader makes it."""
    folder = tmp_path_factory.mktemp("student")
    paths = grading.student(folder)
    assert [path.stem for path in paths] == NAMES
    assert all(path.is_file() for path in paths)
    return folder


def test_every_chapter_that_teaches_has_its_lab():
    chapters = [path.stem for path in notebooks.chapters()]
    assert [name for name in chapters if "01" <= name[:2] <= "11"] == NAMES
    assert list(lab_answers.WRONG) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_form_of_a_lab_and_its_stated_minutes_and_points(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata == {
        "kernelspec": notebooks.KERNEL,
        "language_info": {"name": "python"},
    }
    ids = [grade_id(cell) for cell in notebook.cells]
    assert len(ids) == len(set(ids))
    assert all(cell.metadata["nbgrader"]["schema_version"] == 3 for cell in notebook.cells)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    tasks = list(answers(notebook))
    assert 4 <= len(tasks) <= 6
    # Every answer has its check and its test, right below it and in this order.
    code = [grade_id(cell) for cell in notebook.cells if cell.cell_type == "code"]
    for each in tasks:
        at = code.index(each)
        assert code[at : at + 3] == [each, f"check-{each}", f"test-{each}"]
    assert set(most(notebook)) == set(tasks)
    for cell in notebook.cells:
        assert len(cell.source.splitlines()) <= 30
        widest = 100 if cell.cell_type == "code" else 120
        assert max(map(len, cell.source.splitlines())) <= widest
        assert not re.search(r"^\s*[%!]|https?:|[\"']/", cell.source, re.MULTILINE)
        hidden = cell.source.count("### BEGIN HIDDEN TESTS"), cell.source.count("### END HIDDEN")
        solved = cell.source.count("### BEGIN SOLUTION"), cell.source.count("### END SOLUTION")
        assert hidden == (kind(cell) == "test",) * 2
        assert solved == (kind(cell) == "answer",) * 2
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heads = re.findall(r"^## \d · .* \((\d+) minutes, (\d) points?\)$", text, re.MULTILINE)
    assert set(re.findall(r"^## \d · (\w+)", text, re.MULTILINE)) == {"Predict", "Change", "Build"}
    assert [int(points) for _, points in heads] == list(most(notebook).values())
    assert len(re.findall(r"^## ", text, re.MULTILINE)) == len(heads)
    minutes, total = map(int, re.search(r"about (\d+)\s+minutes, (\d+)\s+points", text).groups())
    assert minutes == sum(int(each) for each, _ in heads)
    assert total == sum(most(notebook).values())


def test_the_students_version_gives_nothing_away(released):
    for name in NAMES:
        gives_nothing_away(name, released)


def gives_nothing_away(name, released):
    """Check the students' version of a lab."""
    source, given = read(name), read(name, released)
    nbformat.validate(given)
    assert [grade_id(cell) for cell in given.cells] == [grade_id(cell) for cell in source.cells]
    text = (released / f"{name}.ipynb").read_text(encoding="utf-8")
    assert "BEGIN SOLUTION" not in text and "HIDDEN TESTS" not in text
    for old, new in zip(source.cells, given.cells, strict=True):
        assert not new.get("outputs") and not new.get("execution_count")
        parts = re.findall(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END", old.source, re.S)
        assert not any(part.strip() in new.source for part in parts)
        if kind(old) == "answer":
            assert grading.STUB in new.source
            ast.parse(new.source)
        if kind(old) == "given":
            assert new.source == old.source


@pytest.mark.parametrize("name", NAMES)
def test_the_solved_lab_has_full_marks_the_empty_one_none_and_checks_say_why(name, released):
    assert mark(name, {}) == (most(read(name)), {})
    points, messages = mark(name, answers(read(name, released)))
    assert points == dict.fromkeys(most(read(name)), 0)
    assert set(messages) == set(points)
    assert all(messages.values()), messages  # a sentence, and not an error of Python's


@pytest.mark.parametrize("name", NAMES)
def test_wrong_answers_cost_what_they_should_and_no_other_task(name):
    left = list(lab_answers.WRONG[name].values())
    assert len(left) >= 3
    while left:  # of two answers to one task, the second is graded in the next round
        now = {where: (code, cost) for where, code, cost in reversed(left)}
        left = [one for one in left if now[one[0]] != one[1:]]
        points, messages = mark(name, {where: code for where, (code, _) in now.items()})
        full = most(read(name))
        assert points == {each: full[each] - (now[each][1] if each in now else 0) for each in full}
        assert set(messages) <= set(now)
        assert all(messages.values()), messages  # a sentence, and not an error of Python's


def strip(cells):
    """Take nbgrader's marks away, as some editors do."""
    for cell in cells:
        cell.metadata.pop("nbgrader")


ALTERED = {  # what students do to cells 3 (an answer), 5 (its test) and the others
    "answer twice": lambda cells: cells.insert(4, copy.deepcopy(cells[3])),
    "check gone": lambda cells: cells.pop(5),
    "marks gone": strip,
    "test twice": lambda cells: cells.insert(6, copy.deepcopy(cells[5])),
    "wrong type": lambda cells: cells[5].update(cell_type="markdown"),
    "answer gone": lambda cells: cells.pop(3),
}


@pytest.fixture(scope="module")
def handed_in(released, tmp_path_factory):
    """A folder of submissions: one solved, one empty, one with a typical mistake, and odd files."""
    folder = tmp_path_factory.mktemp("submissions")
    name = NAMES[0]
    where, code, _ = lab_answers.WRONG[name]["the root of two forgotten"]
    solved = answers(read(name))
    solutions = {"ben": {}, "cleo": solved | {where: code}}
    for who in ("ada", "ben", "cleo", *ALTERED):
        notebook = read(name, released)
        for cell in notebook.cells:
            cell.source = solutions.get(who, solved).get(grade_id(cell), cell.source)
            if who == "ben" and kind(cell) == "test":
                cell.source = "pass  # what a student does to a test must not count"
        ALTERED.get(who, lambda cells: None)(notebook.cells)
        (folder / who).mkdir()
        nbformat.write(notebook, folder / who / f"{name}.ipynb")
    shutil.copy(folder / "ada" / f"{name}.ipynb", folder / "ada" / "Untitled.ipynb")
    (folder / "dora").mkdir()
    (folder / "dora" / f"{name}.ipynb").write_text("not a notebook", encoding="utf-8")
    (folder / "emil" / f"{name}.ipynb").mkdir(parents=True)
    return folder


@pytest.mark.filterwarnings("ignore:Object of type")  # nbgrader's own way with its data base
def test_submissions_go_through_nbgrader_whatever_students_did_to_cells(
    handed_in, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path))
    assert cli.main(["grade", str(handed_in)]) == 1  # three could not be graded
    shown = capsys.readouterr()
    lines = dict(re.split("  +", line)[:2] for line in shown.out.splitlines()[:-1])
    assert lines.pop("student") == "01"
    expected = dict.fromkeys(["ada", *ALTERED], "12/12") | {"ben": "0/12", "cleo": "9/12"}
    assert lines == expected | {"answer gone": "10/12"}
    assert f"answer gone/{NAMES[0]}.ipynb: cell predicted_psnr is missing" in shown.err
    assert "ada/Untitled.ipynb is no lab" in shown.err
    assert f"dora/{NAMES[0]}.ipynb was not graded: it is no notebook" in shown.err
    assert f"emil/{NAMES[0]}.ipynb was not graded: [Errno 21] Is a directory" in shown.err
    assert len(shown.err.splitlines()) == 4
    with open(tmp_path / "grades" / "marks.csv", encoding="utf-8", newline="") as file:
        marks = {row["student"]: f"{row['points'][:-2]}/12" for row in csv.DictReader(file)}
    assert marks == lines
    with open(tmp_path / "grades" / "tasks.csv", encoding="utf-8", newline="") as file:
        tasks = [row for row in csv.DictReader(file) if row["student"] == "cleo"]
    assert [row["task"] for row in tasks] == list(most(read(NAMES[0])))
    assert [row["task"] for row in tasks if row["points"] == "0.0"] == ["noise_level"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no LC_ALL")
def test_what_nbgrader_calls_can_read_paths_with_any_letters_even_with_a_locale_of_c():
    code = (
        "import os, subprocess, sys; from course import grading\n"
        "with grading._surroundings():\n"
        "    subprocess.run([sys.executable, '-c', 'import locale; print(locale.getencoding())'])\n"
        "print(os.environ['LC_ALL'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=runtime.repository(),
        env=os.environ | {"LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.lower().split() == ["utf-8", "c"]


def test_the_command_writes_the_students_version(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path))
    monkeypatch.setattr(grading, "names", lambda: NAMES[:1])
    assert cli.main(["student"]) == 0
    (path,) = (tmp_path / "student").iterdir()
    assert capsys.readouterr().out == f"{path}\n"
    assert path.name == f"{NAMES[0]}.ipynb"


def test_a_folder_without_labs_is_refused(tmp_path, capsys):
    assert cli.main(["grade", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert cli.main(["grade", str(tmp_path)]) == 2
    assert f"STUDENT/{NAMES[0]}.ipynb" in capsys.readouterr().err


def test_without_nbgrader_one_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nbgrader.apps", None)
    assert cli.main(["student"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "pip install -e '.[teach]'" in shown


def test_make_grade_asks_where_the_submissions_are():
    result = subprocess.run(
        ["make", "--no-print-directory", "grade", "--assume-old=install"],
        cwd=runtime.repository(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode and "make grade SUBMISSIONS=folder" in result.stderr
