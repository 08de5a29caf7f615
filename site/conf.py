"""How Sphinx makes pages out of notebooks and documents as they stand.

Called by course.site, with the repository as source for the site, or with a folder of executed
copies for the pages of a run. Nothing is executed, and the pages fetch nothing: equations become
MathML, the search is Sphinx' own.
"""

import base64
import hashlib
import json
from pathlib import Path

import nbformat
from docutils import nodes

from course import notebooks, site

ROOT = site.ROOT
DOCUMENTS = ("TEACHING.md", "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md")
CARDS = ("data/README.md", "data/weights/README.md", "LICENSE-TEXT.md")
NOTEBOOKS = [path.relative_to(ROOT).as_posix() for path in notebooks.chapters()]

project = "imagegen-tf"
author = "The imagegen-tf authors"
copyright = "2026, the imagegen-tf authors. Text: CC BY 4.0. Code: Apache-2.0"
root_doc = "README"
include_patterns = ["README.md", *DOCUMENTS, *CARDS, *NOTEBOOKS]
extensions = ["myst_nb"]
nb_execution_mode = "off"
nb_mime_priority_overrides = [("html", "image/gif", 5)]
nb_number_source_lines = False
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
html_theme = "sphinx_book_theme"
html_title = "imagegen-tf"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_sourcelink_suffix = ""
html_copy_source = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "article_header_end": ["toggle-secondary-sidebar.html"],
}
html_math_renderer = "mathml"


def contents():
    """Write the table of contents that the start page gets below its text."""
    parts = {
        "Chapters": NOTEBOOKS,
        "For teachers": DOCUMENTS[:1],
        "Results": DOCUMENTS[1:2],
        "Project": [*DOCUMENTS[2:], *CARDS],
    }
    blocks = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", *names, "```"])
        for title, names in parts.items()
    ]
    return "\n\n" + "\n\n".join(blocks) + "\n"


def read_source(app, name, source):
    """Add the contents to the start page, and buttons to chapters; fold solutions."""
    if name == "README":
        source[0] += contents()
    if not Path(app.srcdir, f"{name}.ipynb").exists():
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if "solution" in cell["metadata"].get("tags", []):
            cell["metadata"]["tags"].append("hide-cell")
    notebook["cells"][0]["source"] = site.with_buttons(
        "".join(notebook["cells"][0]["source"]), Path(name).name
    )
    source[0] = json.dumps(notebook)


def describe_pictures(app, doctree):
    """Give every picture of a chapter the text alternative that its notebook keeps."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    known = alternatives(path)
    for image in doctree.findall(nodes.image):
        found = known.get(Path(image["uri"]).stem)
        if found:
            image["alt"] = found


def alternatives(path):
    """Map the hash of each stored picture, by which MyST-NB names its file, to its alternative."""
    found = {}
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            for kind, data in output.get("data", {}).items():
                if kind in ("image/png", "image/jpeg", "image/gif"):
                    about = output.metadata.get(kind, {}) | output.metadata
                    found[hashlib.sha256(base64.b64decode(data)).hexdigest()] = about.get("alt")
    return found


def inline_equation(writer, node):
    """Write an equation inside a line."""
    writer.body.append(site.mathml(node.astext()))
    raise nodes.SkipNode


def block_equation(writer, node):
    """Write an equation on a line of its own."""
    writer.body.append(f'<div class="math">{site.mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app):
    """Tell Sphinx."""
    app.add_html_math_renderer("mathml", (inline_equation, None), (block_equation, None))
    app.connect("source-read", read_source)
    app.connect("doctree-read", describe_pictures)
