"""The command line of the course: python -m imagegen_tf --help.

Each command imports what it needs, so that `doctor` also runs where a package is missing.
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

    def add(action, text, **options):
        command = commands.add_parser(action.__name__, help=text, **options)
        command.set_defaults(action=action)
        return command

    add(doctor, "say what is installed and what is missing")
    further = "Further arguments go to JupyterLab, for example --no-browser --port 9999."
    add(lab, "open the course in JupyterLab", epilog=further)
    command = add(run, "execute chapters without a browser; web pages go to runs/pages")
    _take_chapters(command)
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
        help="override names of the chapter's parameters cell",
    )
    command.add_argument(
        "--seeds", nargs="+", type=_seed, metavar="N", help="run with each of these seeds"
    )
    command.add_argument(
        "--keep",
        action="store_true",
        help="keep what is measured under data/results, and write RESULTS.md anew",
    )
    command = add(test, "check style, run the unit tests, and execute every chapter (quick)")
    command.add_argument("--chapter", metavar="NN", help="execute only this chapter")
    _take_chapters(add(notebooks, "execute chapters in place (quick) and store their outputs"))
    add(student, "write the students' version of the graded labs")
    command = add(grade, "grade the labs that students handed in")
    command.add_argument("folder", help="holds a folder for each student, with the labs in it")
    add(site, "build the site into build/site, offline")
    add(results, "write RESULTS.md from data/results")
    return root


def _take_chapters(command):
    """Let a command take chapters."""
    text = "number or name, for example 02 or image_editing (default: all)"
    command.add_argument("chapters", nargs="*", metavar="CHAPTER", help=text)


def _seed(text):
    """Read a seed; a chapter's number behind --seeds would be swallowed."""
    if not text.isdecimal() or (text != "0" and text.startswith("0")):
        message = f"{text!r} is no seed; name chapters first: run 02 --seeds 0 1 2"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def doctor(arguments):
    """Print what the machine has and what is missing."""
    try:
        from course import doctor

        print(doctor.table(doctor.examine()))
    except ImportError as error:
        print(f"TensorFlow cannot be imported ({error}). Install it: make install", file=sys.stderr)
        return 1
    return 0


def lab(arguments):
    """Start JupyterLab."""
    from course import notebooks

    notebooks.open_jupyterlab(arguments.rest)
    return 0


def run(arguments):
    """Execute chapters into the runs folder."""
    from course import notebooks, results

    if arguments.profile:
        os.environ["IMAGEGEN_PROFILE"] = arguments.profile
    settings = dict(parameters.parse(text) for text in arguments.set)
    per_seed = [settings | {"SEED": seed} for seed in arguments.seeds or ()] or [settings]
    keep = results.keep_chapter if arguments.keep else None
    paths = notebooks.chapters(arguments.chapters)
    outcomes = [outcome for each in per_seed for outcome in notebooks.run(paths, each, keep)]
    print(f"Pages: {runtime.runs_folder() / 'pages' / 'index.html'}")
    return _exit_status(outcomes)


def test(arguments):
    """Check everything, or one chapter."""
    from course import notebooks

    chapter = notebooks.chapters([arguments.chapter])[0] if arguments.chapter else None
    return 0 if notebooks.test(chapter) else 1


def notebooks(arguments):
    """Execute chapters in place."""
    from course import notebooks

    paths = notebooks.chapters(arguments.chapters)
    every = paths if arguments.chapters else [*paths, notebooks.TEMPLATE]
    return _exit_status(notebooks.refresh(every))


def student(arguments):
    """Write the students' version of the labs."""
    from course import grading

    print(*grading.student(), sep="\n")
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


def _exit_status(outcomes):
    """Print what failed; return the exit status."""
    from course import notebooks

    failures = notebooks.explain(outcomes)
    if failures:
        print(f"\n{failures}", file=sys.stderr)
    return 1 if failures else 0


def main(words=None):
    """Run one command; return its exit status: 0 good, 1 something failed, 2 wrong arguments."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a letter that a pipe does not know stops no work
            stream.reconfigure(errors="replace")
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
