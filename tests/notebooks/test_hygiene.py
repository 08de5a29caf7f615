"""Every notebook keeps the course's form; the checks themselves are tried on faulty notebooks."""

import ast
import copy
import re
import statistics

import nbformat
import pytest

from course import notebooks, site

SECTIONS = ("Parameters", "Measure", "Lessons", "Exercises", "References")
NOTEBOOKS = sorted(notebooks.NOTEBOOKS.glob("*.ipynb"))
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/svg+xml")
METADATA = {"kernelspec": notebooks.KERNEL, "language_info": {"name": "python"}}
FORBIDDEN_TAGS = {"raises-exception", "nbval-skip", "nbval-ignore-output", "skip-execution"}
# A path from the root of a drive, or from a home folder.
ABSOLUTE_PATH = re.compile(
    r"(?<![\w./:<])/(?:home|root|tmp|usr|var|opt|mnt|etc|work|content|Users|private)/\w"
    r"|\b[A-Z]:\\+\w|(?<!\w)~/\w"
)
FETCHING = re.compile(r"https?://|urllib|requests\.|urlopen|\bwget\b|\bcurl\b")
TENSORFLOW_LOG = re.compile(r"port\.cc|cpu_feature_guard|cuda\w*\.cc|oneDNN custom|absl::")


def faults(notebook, size=0):
    """List what is wrong with a notebook, one sentence each; size is its file's, in bytes."""
    return [
        *form(notebook, size),
        *headings(notebook),
        *code(notebook),
        *parameters(notebook),
        *outputs(notebook),
    ]


def form(notebook, size):
    """Faults of the file and of the metadata."""
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        yield f"is no valid notebook: {error.message}"
    if size >= 1.5e6:
        yield f"takes {size / 1e6:.2f} MB, at most 1.5"
    if notebook.metadata != METADATA:
        yield "has metadata of one machine: run make notebooks"
    above = None
    for number, cell in enumerate(notebook.cells, 1):
        if "solution" in cell.metadata.get("tags", []):
            if not (above and above.metadata.get("jp-MarkdownHeadingCollapsed")):
                yield f"cell {number} is a solution, but no folded heading hides it"
        above = cell
        if set(cell.metadata) - set(notebooks.CELL_METADATA):
            yield f"cell {number} has metadata of one run: run make notebooks"
        if FORBIDDEN_TAGS & set(cell.metadata.get("tags", [])):
            yield f"cell {number} is tagged away from the tests"


def headings(notebook):
    """Faults of titles, sections and equations."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"^```.*?^```", "", cell.source, flags=re.MULTILINE | re.DOTALL)
            found += re.findall(r"^(#+) +(.*)$", text, flags=re.MULTILINE)
            for equation in re.findall(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$\n]+)\$", prose(text)):
                try:
                    site.mathml("".join(equation))
                except Exception as error:
                    yield f"has an equation that pages cannot draw: {error}"
    depths = [len(marks) for marks, _ in found]
    if depths.count(1) != 1 or depths[0] != 1:
        yield f"has {depths.count(1)} titles (H1), expected one, at the top"
    if max(depths, default=0) > 3:
        yield "has headings below H3"
    sections = " ".join(title for marks, title in found if len(marks) > 1).lower()
    for section in SECTIONS:
        if section.lower() not in sections:
            yield f"has no section {section}"


def prose(text):
    """Text without its code spans."""
    return re.sub(r"`[^`]*`", "", text)


def code(notebook):
    """Faults of the code cells."""
    lengths = []
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code":
            continue
        lines = cell.source.splitlines()
        lengths.append(len(lines))
        if len(lines) > 30:
            yield f"cell {number} has {len(lines)} lines, at most 30"
        if any(line.lstrip().startswith(("%", "!", "?")) for line in lines):
            yield f"cell {number} is not pure Python"
        if ABSOLUTE_PATH.search(cell.source):
            yield f"cell {number} has an absolute path"
        if FETCHING.search(cell.source):
            yield f"cell {number} fetches from the network"
    if lengths and statistics.median(lengths) > 8:
        yield f"has a median of {statistics.median(lengths)} lines a cell, at most 8"


def parameters(notebook):
    """Faults of the parameters cell."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1 or cells[0].cell_type != "code":
        yield f"has {len(cells)} parameters cells, expected one, of code"
        return
    nodes = ast.walk(ast.parse(cells[0].source))
    names = [node.id for node in nodes if hasattr(node, "id") and isinstance(node.ctx, ast.Store)]
    if not names:
        yield "has no name in its parameters cell"
    for name in names:
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            yield f"has a parameter {name} that is not UPPERCASE"


def outputs(notebook):
    """Faults of stored outputs."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        yield "was not executed from top to bottom in one go"
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield f"cell {number} shows an error"
            if output.get("name") == "stderr":
                yield f"cell {number} shows what went to stderr"
            text = written(output)
            if ABSOLUTE_PATH.search(text):
                yield f"cell {number} shows an absolute path"
            if TENSORFLOW_LOG.search(text):
                yield f"cell {number} shows TensorFlow's log"
            for kind in set(IMAGES) & set(output.get("data", {})):
                if not (output.metadata.get(kind, {}) | output.metadata).get("alt", "").strip():
                    yield f"cell {number} shows a picture without a text alternative"


def written(output):
    """Join all text of an output, without pictures."""
    texts = [output.get("text", ""), *output.get("traceback", [])]
    data = output.get("data", {})
    texts += [str(text) for kind, text in data.items() if kind not in IMAGES]
    return re.sub(r"data:image/\w+;base64,[A-Za-z0-9+/=]+", "", "\n".join(texts))


@pytest.mark.parametrize("path", [*NOTEBOOKS, notebooks.TEMPLATE], ids=lambda path: path.stem)
def test_notebook(path):
    assert path == notebooks.TEMPLATE or re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)
    notebook = nbformat.read(path, as_version=4)
    assert path.read_text(encoding="utf-8").endswith("}\n")
    assert faults(notebook, path.stat().st_size) == []


def test_chapters_are_numbered_without_a_gap():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{i:02}" for i in range(len(NOTEBOOKS))]
    assert len(NOTEBOOKS) >= 4


def good():
    """A notebook without fault."""
    v4 = nbformat.v4
    alt = {"image/png": {"alt": "a grey square"}}
    picture = v4.new_output("display_data", {"image/png": "iVBORw0K"}, metadata=alt)
    seed = v4.new_code_cell("SEED = 0", metadata={"tags": ["parameters"]}, execution_count=1)
    show = v4.new_code_cell("show(SEED)", outputs=[picture], execution_count=2)
    more = v4.new_code_cell("SEED", execution_count=3)
    text = "# Title\n\n## Parameters\n\n### Measure\n\nthe $x^2$ of `$HOME`"
    cells = [
        v4.new_markdown_cell(text),
        seed,
        show,
        more,
        v4.new_markdown_cell("## Lessons, exercises, references\n\n```sh\n# a comment\n```"),
    ]
    return v4.new_notebook(cells=cells, metadata=copy.deepcopy(METADATA))


def stream(text, name="stdout"):
    """An output of text."""
    return nbformat.v4.new_output("stream", text=text, name=name)


def spoil(**changes):
    """Make a fault: set these keys of the third cell, one of code."""
    return lambda notebook: notebook.cells[2].update(nbformat.from_dict(changes))


def spoil_text(old, new):
    """Make a fault: replace text in the first cell."""

    def change(notebook):
        assert old in notebook.cells[0].source
        notebook.cells[0].source = notebook.cells[0].source.replace(old, new)

    return change


def spoil_parameters(source, *tags):
    """Make a fault: another source, or other tags, of the parameters cell."""
    return lambda notebook: notebook.cells[1].update(
        source=source, metadata=nbformat.from_dict({"tags": list(tags)})
    )


ERROR = nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
BARE = nbformat.v4.new_output("display_data", {"image/jpeg": "AAAA"})
FAULTY = {
    "no valid notebook": spoil(id="not an id!"),
    "metadata of one machine": lambda notebook: notebook.metadata.update(papermill={}),
    "metadata of one machine: run": lambda notebook: notebook.metadata.language_info.update(
        version="3.11.7"
    ),
    "metadata of one run": spoil(metadata={"execution": {}}),
    "tagged away": spoil(metadata={"tags": ["raises-exception"]}),
    "no folded heading hides it": spoil(metadata={"tags": ["solution"]}),
    "has 0 titles": spoil_text("# Title", "Title"),
    "has 2 titles": spoil_text("the $x^2$", "\n# Another\n"),
    "below H3": spoil_text("### Measure", "#### Measure"),
    "no section Measure": spoil_text("### Measure", "### Look"),
    "cannot draw": spoil_text("x^2", r"\nonsense"),
    "has 31 lines": spoil(source="1\n" * 31),
    "has a median of 9": lambda notebook: [
        cell.update(source="1\n" * 9) for cell in notebook.cells[2:4]
    ],
    "not pure Python": spoil(source="%matplotlib inline"),
    "cell 3 is not pure": spoil(source="if x:\n    !ls"),
    "has an absolute path": spoil(source="open('/usr/picture.png')"),
    "cell 3 has an absolute": spoil(source=r"open('C:\\pictures')"),
    "fetches from": spoil(source="open('https://example.org/a.png')"),
    "has 0 parameters cells": spoil_parameters("SEED = 0"),
    "has 2 parameters cells": spoil(metadata={"tags": ["parameters"]}),
    "parameter seed that": spoil_parameters("seed = 0", "parameters"),
    "no name in its": spoil_parameters("print()", "parameters"),
    "not executed from": spoil(execution_count=4),
    "one go": spoil(execution_count=None),
    "shows an error": spoil(outputs=[ERROR]),
    "stderr": spoil(outputs=[stream("careful", "stderr")]),
    "shows an absolute path": spoil(outputs=[stream("saved to /mnt/me/runs/a.json")]),
    "cell 3 shows an absolute": spoil(outputs=[stream(r"C:\Users\me")]),
    "TensorFlow's log": spoil(outputs=[stream("I0000 00:00:1 7 port.cc:153] oneDNN")]),
    "without a text alternative": spoil(outputs=[BARE]),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_the_check_finds(fault):
    notebook = good()
    FAULTY[fault](notebook)
    found = faults(notebook)
    assert any(fault in sentence for sentence in found), found
    assert len(found) == 1


def test_the_check_finds_a_file_too_large():
    assert faults(good(), 1_500_000) == ["takes 1.50 MB, at most 1.5"]


def test_the_check_finds_nothing_in_a_good_notebook():
    assert faults(good(), 1_400_000) == []


def test_what_is_no_path_passes():
    for text in [
        "height/width",
        "a / b",
        "1/255",
        "and/or",
        "</td>",
        "x /home",
        "../runs/a",
        "12:30\\n",
    ]:
        assert not ABSOLUTE_PATH.search(text)
