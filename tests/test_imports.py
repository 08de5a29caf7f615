"""The levels of the design: imports go downward only, and TensorFlow stays below its line."""

import ast
import subprocess
import sys

import pytest

from imagegen_tf import runtime

LEVELS = [
    (
        "images",
        "blend_formulas",
        "hardware",
        "distances",
        "widgets",
        "scene_captions",
        "parameters",
    ),
    ("noise", "editing", "compositing", "glyphs", "scenes", "plots", "readers"),
    # TensorFlow below this line
    ("runtime", "pages"),
    ("layers", "text", "checkpoints", "fingerprints", "journal", "machine", "weights"),
    ("classifiers",),
    ("sessions",),
    ("training",),
    ("datasets", "metrics"),
    ("course", "results", "labs"),
    ("website",),
    ("__main__",),
]
LEVEL = {module: level for level, modules in enumerate(LEVELS) for module in modules}
FIRST_WITH_TENSORFLOW = LEVEL["runtime"]
# May import TensorFlow, but inside the functions that need it.
LATE = {
    "runtime",
    "pages",
    "machine",
    "datasets",
    "metrics",
    "course",
    "results",
    "labs",
    "website",
    "__main__",
    "weights",
    "classifiers",
}
FILES = {
    path.stem: path
    for path in (runtime.REPOSITORY / "imagegen_tf").glob("*.py")
    if path.stem != "__init__"
}


def imports(tree):
    """Yield the dotted names that the imports in a syntax tree ask for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "imagegen_tf" if node.level else ""
            module = ".".join(part for part in (package, node.module) if part)
            yield from (f"{module}.{name.name}" for name in node.names)


def outside_functions(tree):
    """Copy a syntax tree without the bodies of its functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = []
    return tree


def ours(names):
    """Reduce dotted names to the modules of the package among them."""
    return {name.split(".")[1] for name in names if name.startswith("imagegen_tf.")}


def heavy(names):
    """Reduce dotted names to TensorFlow and Keras among them."""
    return {name.split(".")[0] for name in names} & {"tensorflow", "keras"}


def tree(module):
    """Parse a module of the package."""
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def test_every_module_has_a_level():
    assert set(FILES) <= set(LEVEL)
    assert len(FILES) > 8


@pytest.mark.parametrize("module", FILES)
def test_imports_go_downward_only(module):
    for other in ours(imports(tree(module))):
        assert LEVEL[other] < LEVEL[module], f"{module} imports {other}"


@pytest.mark.parametrize("module", FILES)
def test_tensorflow_stays_below_its_line(module):
    if LEVEL[module] < FIRST_WITH_TENSORFLOW:
        assert not heavy(imports(tree(module)))
    if module in LATE:
        assert not heavy(imports(outside_functions(tree(module))))


@pytest.mark.parametrize("module", [*FILES, "__init__"])
def test_files_stay_short(module):
    path = runtime.REPOSITORY / "imagegen_tf" / f"{module}.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 400
    too_long = [number for number, line in enumerate(lines, 1) if len(line) > 100]
    assert not too_long


def test_the_walk_sees_every_kind_of_import():
    source = """
import keras.layers as layers
from imagegen_tf import images, noise
from imagegen_tf.plots import grid
from . import editing
def late():
    import tensorflow as tf
"""
    assert ours(imports(ast.parse(source))) == {"images", "noise", "plots", "editing"}
    assert heavy(imports(ast.parse(source))) == {"keras", "tensorflow"}
    assert heavy(imports(outside_functions(ast.parse(source)))) == {"keras"}


def test_first_chapters_never_wait_for_tensorflow():
    modules = "compositing, datasets, editing, images, metrics, noise, plots, runtime, course"
    script = (
        f"import sys, imagegen_tf; from imagegen_tf import {modules};"
        "print(*{'tensorflow', 'keras'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "\n"


def test_importing_the_package_imports_no_module_of_it():
    script = "import sys, imagegen_tf; print([n for n in sys.modules if 'imagegen_tf.' in n])"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
