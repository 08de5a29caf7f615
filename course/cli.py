"""The command line of the course: python -m imagegen_tf --help.

`course` is imported where it is needed, so that `doctor` also runs where one of its packages is
missing.
"""

import argparse
import os
import sys

from course import parameters
from imagegen_tf import runtime


def parser():
    """Build the parser; each command keeps the function that it calls in `action`."""
    root = argparse.ArgumentParser(
        prog="python -m imagegen_tf", description="A course on image generation in notebooks."
    )
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser("doctor", help="say what is installed and what is missing")
    command.set_defaults(action=doctor)

    command = commands.add_parser(
        "lab",
        help="open the course in JupyterLab",
        epilog="Further arguments go to JupyterLab, for example --no-browser --port 9999.",
    )
    command.set_defaults(action=lab)

    command = commands.add_parser(
        "run", help="execute chapters without a browser; web pages go to runs/pages"
    )
    add_chapters(command)
    command.add_argument(
        "--profile",
        choices=runtime.PROFILES,
        help="quick takes minutes on two CPU cores, full wants a GPU (default: quick)",
    )
    command.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="override a name of the chapter's parameters cell",
    )
    command.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        metavar="N",
        help="run with each of these seeds",
    )
    command.add_argument(
        "--keep",
        action="store_true",
        help="keep what is measured under data/results, and write RESULTS.md anew",
    )
    command.set_defaults(action=run)

    command = commands.add_parser(
        "test", help="check style, run the unit tests, and execute every chapter (quick)"
    )
    command.add_argument("--chapter", metavar="NN", help="execute only this chapter")
    command.set_defaults(action=test)

    command = commands.add_parser(
        "notebooks", help="execute chapters in place (quick) and store their outputs"
    )
    add_chapters(command)
    command.set_defaults(action=notebooks)

    command = commands.add_parser("student", help="write the students' version of the graded labs")
    command.set_defaults(action=student)

    command = commands.add_parser("grade", help="grade the labs that students handed in")
    command.add_argument("folder", help="holds a folder for each student, with the labs in it")
    command.set_defaults(action=grade)

    command = commands.add_parser("site", help="build the site into build/site, offline")
    command.set_defaults(action=site)

    command = commands.add_parser("results", help="write RESULTS.md from data/results")
    command.set_defaults(action=results)
    return root


def add_chapters(command):
    """Let a command take chapters."""
    command.add_argument(
        "chapters",
        nargs="*",
        metavar="CHAPTER",
        help="number or name, for example 02 or image_editing (default: all)",
    )


def doctor(arguments):
    """Print the machine report."""
    try:
        from course import doctor

        print(doctor.table(doctor.report()))
    except ImportError as error:
        print(f"TensorFlow cannot be imported ({error}). Install it: make install", file=sys.stderr)
        return 1
    return 0


def lab(arguments):
    """Start JupyterLab."""
    from course import notebooks

    notebooks.lab(arguments.rest)
    return 0


def run(arguments):
    """Execute chapters into the runs folder."""
    from course import notebooks

    if arguments.profile:
        os.environ["IMAGEGEN_PROFILE"] = arguments.profile
    settings = dict(parameters.parse(text) for text in arguments.set)
    each = [settings | {"SEED": seed} for seed in arguments.seeds or ()] or [settings]
    more = {}
    if arguments.keep:
        from course import results

        more = {"kept": results.keep_chapter}
    paths = notebooks.chapters(arguments.chapters)
    outcomes = [outcome for one in each for outcome in notebooks.run(paths, one, **more)]
    print(f"Pages: {runtime.runs_folder() / 'pages' / 'index.html'}")
    return report(outcomes)


def test(arguments):
    """Check everything, or one chapter."""
    from course import notebooks

    chapter = notebooks.chapters([arguments.chapter])[0] if arguments.chapter else None
    return 0 if notebooks.test(chapter) else 1


def notebooks(arguments):
    """Execute chapters in place."""
    from course import notebooks

    paths = notebooks.chapters(arguments.chapters)
    return report(notebooks.refresh(paths if arguments.chapters else [*paths, notebooks.TEMPLATE]))


def student(arguments):
    """Write the students' version of the labs."""
    from course import grading

    for path in grading.student():
        print(path)
    return 0


def grade(arguments):
    """Grade submissions and print the marks."""
    from course import grading

    marks, problems = grading.grade(arguments.folder)
    print(grading.table(marks))
    print(f"Marks: {runtime.runs_folder() / 'grades' / 'marks.csv'}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def site(arguments):
    """Build the site."""
    from course import site

    print(site.build())
    return 0


def results(arguments):
    """Write RESULTS.md."""
    from course import results

    print(results.write().name)
    return 0


def report(outcomes):
    """Print what failed; return the exit status."""
    from course import notebooks

    failures = notebooks.explain(outcomes)
    if failures:
        print(f"\n{failures}", file=sys.stderr)
    return 1 if failures else 0


def main(words=None):
    """Run one command; return its exit status: 0 good, 1 something failed, 2 wrong arguments."""
    root = parser()
    arguments, rest = root.parse_known_args(words)
    if rest and arguments.action is not lab:
        root.error(f"unknown argument {rest[0]}")
    arguments.rest = rest
    try:
        return arguments.action(arguments)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
