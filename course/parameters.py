"""A chapter's parameters: which it has, and how other values are put in their place."""

import ast
import itertools

WORDS = dict.fromkeys(("true", "yes", "1"), True) | dict.fromkeys(("false", "no", "0"), False)


def parse(text):
    """Split NAME=VALUE, as one types it.

    Raises:
        ValueError: no `=`, or NAME is no name.
    Example:
        >>> parse("DATASET=folder:a=b")
        ('DATASET', 'folder:a=b')
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"expected NAME=VALUE after --set, got {text!r}")
    return name, value


def names(notebook):
    """List the names that the cell tagged `parameters` assigns; none without such a cell."""
    cell = _cell(notebook)
    return [name for name, _ in _assignments(cell.source)] if cell else []


def typed(notebook, settings):
    """Give typed texts the types that the parameters have by default.

    Args:
        notebook: nbformat notebook.
        settings: dict of parameter name to value; a str is what somebody typed.
    Returns:
        dict of name to value.
    Raises:
        ValueError: a name that the parameters cell does not have, no such cell, or a value of
            another type.
    """
    cell = _cell(notebook)
    defaults = dict(_assignments(cell.source)) if cell else {}
    for name in settings:
        if cell is None:
            raise ValueError(f"the notebook has no parameters cell, so {name} cannot be set")
        if name not in defaults:
            known = ", ".join(defaults)
            raise ValueError(f"the notebook has no parameter {name}, expected {known}")
    values = {
        name: _typed(name, value, _default(defaults[name])) if isinstance(value, str) else value
        for name, value in settings.items()
    }
    if values.get("SEED", 0) < 0:
        raise ValueError(f"SEED is {values['SEED']}, expected 0 or more")
    return values


def override(notebook, settings):
    """Put other values in the place of those in the parameters cell.

    In the very place, so that lines which compute with them, there or below, see them too.

    Args:
        notebook: nbformat notebook; it is changed.
        settings, raises: as in `typed`.
    """
    values = typed(notebook, settings)
    if values:
        cell = _cell(notebook)
        cell.source = _assigned(cell.source, values)


def _typed(name, text, default):
    """Read a typed text as a value of the type that the default has."""
    try:
        literal = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError):
        literal = text
    kind = type(default)
    if kind is bool:
        literal = WORDS.get(text.lower(), literal)
    elif kind is str:  # a date is no number here; but quotes are no part of a text
        literal = literal if isinstance(literal, str) else text
    elif kind is float and type(literal) is int:
        literal = float(literal)
    elif kind is int and isinstance(literal, float) and literal.is_integer():
        literal = int(literal)  # 1e4
    elif kind in (list, tuple) and type(literal) in (list, tuple):
        literal = kind(literal)
    if default is None or type(literal) is kind:
        return literal
    raise ValueError(f"{name}: expected a value like {default!r}, got {text!r}")


def _default(node):
    """Evaluate a parameter's default: a literal, a sum of such, or what pick gives in quick."""
    node = node.body if isinstance(node, ast.IfExp) else node
    if isinstance(node, ast.Call):
        node = next((word.value for word in node.keywords if word.arg == "quick"), node)
    try:
        return eval(compile(ast.Expression(node), "default", "eval"), {"__builtins__": {}})
    except Exception:  # names of the chapter: nothing is known of its type
        return None


def _cell(notebook):
    """Find the cell tagged `parameters`; None if there is none."""
    tagged = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return next((cell for cell in tagged if cell.cell_type == "code"), None)


def _assignments(source):
    """List the names that code assigns, each with its value as a syntax node."""
    pairs = []
    for line in ast.parse(source).body:
        if isinstance(line, ast.Assign | ast.AnnAssign):
            targets = line.targets if isinstance(line, ast.Assign) else [line.target]
            pairs += [(name.id, line.value) for name in targets if isinstance(name, ast.Name)]
    return pairs


def _assigned(source, values):
    """Put other values in the place of those that code assigns."""
    text = source.encode()  # a syntax node counts in bytes
    starts = [0, *itertools.accumulate(map(len, text.splitlines(keepends=True)))]
    for name, old in reversed(_assignments(source)):
        if name in values:
            first = starts[old.lineno - 1] + old.col_offset
            last = starts[old.end_lineno - 1] + old.end_col_offset
            text = text[:first] + repr(values[name]).encode() + text[last:]
    return text.decode()
