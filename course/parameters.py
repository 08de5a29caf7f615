"""A chapter's parameters: which it has, and how other values are put in their place."""

import ast
import itertools


def parse(text):
    """Split NAME=VALUE; the value is a Python literal, or else the text itself.

    Args:
        text: str such as "STEPS=200" or "DATASET=photos".
    Returns:
        (name, value).
    Raises:
        ValueError: no `=`, or NAME is no name.
    Example:
        >>> parse("SIGMAS=(0.1, 0.2)"), parse("DATASET=photos")
        (('SIGMAS', (0.1, 0.2)), ('DATASET', 'photos'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"expected NAME=VALUE after --set, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def names(notebook):
    """List the names that the cell tagged `parameters` assigns; none without such a cell."""
    cell = _cell(notebook)
    return [name for name, _ in _assignments(cell.source)] if cell else []


def override(notebook, settings):
    """Put other values in the place of those in the parameters cell.

    In the very place, so that lines which compute with them, there or below, see them too.

    Args:
        notebook: nbformat notebook; it is changed.
        settings: dict of parameter name to value, a Python literal.
    Raises:
        ValueError: a name that the parameters cell does not have, or no such cell.
    """
    cell, known = _cell(notebook), names(notebook)
    for name in settings:
        if cell is None:
            raise ValueError(f"the notebook has no parameters cell, so {name} cannot be set")
        if name not in known:
            raise ValueError(f"the notebook has no parameter {name}, expected {', '.join(known)}")
    if settings:
        cell.source = _assigned(cell.source, settings)


def _cell(notebook):
    """Find the cell tagged `parameters`; None if there is none."""
    tagged = (one for one in notebook.cells if "parameters" in one.metadata.get("tags", []))
    return next((one for one in tagged if one.cell_type == "code"), None)


def _assignments(source):
    """List the names that code assigns, each with its value as a syntax node."""
    found = []
    for line in ast.parse(source).body:
        if isinstance(line, ast.Assign | ast.AnnAssign):
            targets = line.targets if isinstance(line, ast.Assign) else [line.target]
            found += [(one.id, line.value) for one in targets if isinstance(one, ast.Name)]
    return found


def _assigned(source, settings):
    """Put other values in the place of those that code assigns."""
    text = source.encode()  # a syntax node counts in bytes
    starts = [0, *itertools.accumulate(map(len, text.splitlines(keepends=True)))]
    for name, old in reversed(_assignments(source)):
        if name in settings:
            first = starts[old.lineno - 1] + old.col_offset
            last = starts[old.end_lineno - 1] + old.end_col_offset
            text = text[:first] + repr(settings[name]).encode() + text[last:]
    return text.decode()
