"""The code that is taught, for tests and benchmarks: a notebook's cells tagged `model`."""

from types import SimpleNamespace

import nbformat

from course import notebooks


def load(chapter):
    """Execute the cells tagged `model` of a chapter, and no others.

    Args:
        chapter: number or name, such as "04".
    Returns:
        A namespace with all names that these cells define.
    Raises:
        ValueError: no such chapter, or it has no such cell.
    """
    (path,) = notebooks.chapters([chapter])
    cells = [
        cell.source
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code" and "model" in cell.metadata.get("tags", [])
    ]
    if not cells:
        raise ValueError(f"{path.stem} has no cell tagged model")
    names = {"__name__": path.stem}
    for source in cells:
        exec(compile(source, str(path), "exec"), names)
    return SimpleNamespace(**names)
