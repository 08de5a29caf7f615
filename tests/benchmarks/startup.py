"""Start-up: what an import of the course costs, beside what it cannot do without.

Each import is timed inside a fresh Python, course and baseline in turns. The ratio is of seconds,
so that below 1.5 means: less than half as much again.
"""

import ast

import nbformat

from course import notebooks
from tests.benchmarks import timing

PROGRAM = """
import sys, time
start = time.perf_counter()
{statement}
print(time.perf_counter() - start, "tensorflow" in sys.modules)
"""
SETUP = "from imagegen_tf import runtime; runtime.setup()"
FIRST = ("00", "01", "02", "03")  # chapters that never wait for TensorFlow


def modules_of(chapters):
    """List the modules of the course that some chapters import."""
    cells = [
        cell.source
        for path in notebooks.chapters(chapters)
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
    ]
    imports = [
        node
        for source in cells
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module == "imagegen_tf"
    ]
    # The machine report starts TensorFlow, for it tells what that finds.
    return sorted({name.name for node in imports for name in node.names} - {"machine"})


def take(statement, with_tensorflow):
    """Give the seconds that a statement takes in a fresh Python."""
    passed, has_tensorflow = timing.python(PROGRAM.format(statement=statement))
    if has_tensorflow != str(with_tensorflow):
        raise RuntimeError(f"{statement}: TensorFlow imported is {has_tensorflow}")
    return float(passed)


def imports(name, ours, baseline, theirs, *, with_tensorflow=False, note="", **more):
    """Import both in turns, once before it counts."""
    repeats = timing.FEWER if with_tensorflow else timing.REPEATS
    pairs = [
        [take(statement, with_tensorflow) for statement in (ours, theirs)]
        for _ in range(1 + repeats)
    ][1:]
    own, other = (min(column) for column in zip(*pairs, strict=True))
    note = f"at best {own:.2f} and {other:.2f} s{', ' if note else ''}{note}"
    return timing.from_pairs(name, baseline, pairs, inverse=True, note=note, **more)


def measure():
    """Time imports."""
    yield imports(
        "import imagegen_tf.images", "import imagegen_tf.images", "import numpy", "import numpy"
    )
    yield imports(
        "import imagegen_tf.compositing",
        "import imagegen_tf, imagegen_tf.compositing",
        "import NumPy, Pillow and scipy.ndimage",
        "import numpy, PIL.Image, PIL.ImageOps, scipy.ndimage",
        bound=1.5,
    )
    modules = modules_of(FIRST)
    yield imports(
        f"import the {len(modules)} modules of chapters 00 to 03",
        "; ".join(f"import imagegen_tf.{module}" for module in modules),
        "import numpy",
        "import numpy",
    )
    yield imports(
        "runtime.setup",
        SETUP,
        "import tensorflow",
        "import tensorflow",
        with_tensorflow=True,
        note="it also imports Keras",
    )
