"""All benchmarks, each a ratio against a named baseline measured in the same run.

Run by `make bench`. The fast parts take minutes on two CPU cores, the others train
networks for minutes to hours. What is measured goes to benchmarks.json and benchmarks.txt in the
runs folder. Exit code 1 says that a bound was missed.
"""

import argparse
import importlib
import sys
import time

from course import results
from imagegen_tf import runtime
from tests.benchmarks import comparison

FAST = {
    "startup": "what an import costs",
    "pixels": "pixel operations against scikit-image, Pillow and plain NumPy",
    "pipeline": "the input pipeline alone",
    "steps": "a training step of every network",
    "sampling": "drawing pictures with the shipped networks",
    "judging": "features, Fréchet distance, precision and recall",
    "scaling": "from one process to two",
}
LONG = {
    "training": "GAN and VAE against TensorFlow's tutorials at equal time (15 minutes)",
    "superres": "chapter 06 on Set5 (10 minutes; needs ../shared/data)",
    "inpainting": "chapter 07 on Kodak's photos (5 minutes; needs ../shared/data)",
    "flow": "chapter 10's flow against chapter 04's GAN at equal time (5 minutes)",
}
PARTS = FAST | LONG


def parser():
    """Build the parser."""
    lines = [f"  {name:12}{what}" for name, what in PARTS.items()]
    lines.insert(len(FAST), "long ones:")
    root = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__.partition("\n")[0],
        epilog="\n".join(["fast ones:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("parts", nargs="*", metavar="PART", help="which to run (default: all)")
    root.add_argument("--fast", action="store_true", help="only the fast ones")
    root.add_argument("--base", metavar="OLD.json", help="compare with this earlier run")
    root.add_argument(
        "--keep", action="store_true", help="keep the ratios under data/results, for RESULTS.md"
    )
    return root


def run(parts, say):
    """Run parts and say what comes of it; give the rows."""
    rows = []
    for part in parts:
        start = time.monotonic()
        for row in importlib.import_module(f"tests.benchmarks.{part}").measure():
            comparison.check(row)
            rows.append(row)
            say(comparison.line(row))
        say(f"    {part}: {time.monotonic() - start:.0f} s")
    return rows


def main(words=None):
    """Run what was asked for, print and write it, and compare it with an earlier run."""
    root = parser()
    arguments = root.parse_args(words)
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        root.error(f"unknown: {', '.join(sorted(unknown))}; expected some of {', '.join(PARTS)}")
    try:
        base = comparison.read(arguments.base) if arguments.base else None
    except (FileNotFoundError, ValueError) as error:
        root.error(str(error))
    parts = [name for name in PARTS if name in arguments.parts] or list(PARTS)
    parts = [name for name in parts if name in FAST or not arguments.fast]
    lines = []

    def say(line):
        lines.append(line)
        print(line, flush=True)

    rows = run(parts, say)
    chosen = "--fast" if arguments.fast else " ".join(arguments.parts)
    kept = comparison.content(rows, f"python -m tests.benchmarks {chosen}".strip())
    for line in comparison.changes(base, kept) if base else ():
        say(line)
    comparison.write(runtime.runs_folder() / "benchmarks.json", kept)
    runtime.write_text(runtime.runs_folder() / "benchmarks.txt", "\n".join(lines) + "\n")
    if arguments.keep:
        results.keep_ratios(kept)
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
