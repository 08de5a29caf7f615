"""Web pages: the site of all chapters, and the pages of a run; both offline.

Sphinx does the work, with MyST-NB and a book theme; its settings stand in site/conf.py.
"""

import os
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
from latex2mathml.converter import convert

from imagegen_tf import runtime

ROOT = runtime.repository()
FOLDER = ROOT / "build" / "site"
COLAB = "https://colab.research.google.com/github/"
KAGGLE = "https://kaggle.com/kernels/welcome?src="
INSTALL = """\
# Installs the course, once for each machine; two to five minutes.
import pathlib
import subprocess
import sys

if not pathlib.Path("imagegen-tf").exists():
    subprocess.run(["git", "clone", "--depth=1", "{address}", "imagegen-tf"], check=True)
subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", "imagegen-tf"], check=True)
sys.path.insert(0, "imagegen-tf")"""


def address():
    """Give the repository's address: of pyproject.toml, or the one on which GitHub builds.

    Returns:
        str without a slash at the end; None where nobody knows it.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project.get("urls", {}).get("Repository")
    if not known and "GITHUB_REPOSITORY" in os.environ:
        known = f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}"
    return known.rstrip("/") if known else None


def with_buttons(text, chapter):
    """Put links to Colab and Kaggle below a chapter's title.

    Args:
        text: Markdown of the chapter's first cell.
        chapter: name of the notebook without ending.
    Returns:
        str; the text itself where the repository is not known, or not on GitHub.
    """
    found = address()
    if not found or urlsplit(found).netloc != "github.com":
        return text
    title, _, rest = text.partition("\n")
    place = f"{urlsplit(found).path.strip('/')}/blob/gh-pages/colab/{chapter}.ipynb"
    links = (
        f"[Open in Colab]({COLAB}{place}) · [Open in Kaggle]({KAGGLE}https://github.com/{place})"
    )
    return f"{title}\n\n{links}\n{rest}"


def hosted(path, found):
    """Make the copy of a chapter for Colab and Kaggle: its first cell installs the course.

    Args:
        path: of the notebook.
        found: address of the repository, or of a folder that git can clone.
    Returns:
        nbformat notebook.
    """
    notebook = nbformat.read(path, as_version=4)
    cell = nbformat.v4.new_code_cell(INSTALL.format(address=found), id="install")
    notebook.cells.insert(0, cell)
    return notebook


def mathml(equation, display="inline"):
    """Turn an equation from LaTeX into MathML, which browsers draw by themselves.

    Args:
        equation: LaTeX without its dollar signs.
        display: "inline", or "block" for an equation on a line of its own.
    Returns:
        str, a `math` element.
    Raises:
        ValueError: a command that the converter does not know.
    Example:
        >>> mathml("x").endswith("<mi>x</mi></mrow></math>")
        True
    """
    result = convert(equation.replace("{aligned}", "{split}"), display=display)
    unknown = re.findall(r"<mi>(\\\w+)", result)
    if unknown:
        raise ValueError(f"equation {equation!r} has {unknown[0]}, which MathML pages do not know")
    return result.replace("<mi>&</mi>", "<mi>&amp;</mi>")


def _sphinx(source, folder, *options):
    """Let Sphinx make the pages of a folder; give its exit status."""
    try:
        from sphinx.cmd.build import main
    except ImportError as error:
        raise ValueError(f"pages need Sphinx ({error}): make install") from error
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as doctrees:
        places = ["-c", str(ROOT / "site"), "-d", doctrees, str(source), str(folder)]
        return main(["--quiet", "-b", "html", *options, *places])


def pages(copies, folder):
    """Make the pages of executed chapters, and one that lists them.

    Args:
        copies: dict of the chapter's name to (path of its executed copy, status, profile and
            settings, minutes); a path of None where a chapter was not run yet.
        folder: where to; what was there is removed.
    Returns:
        pathlib.Path of the page that lists them.
    Raises:
        ValueError: Sphinx is not installed.
    """
    lines = ["# Chapters", "", "| chapter | status | profile | minutes |", "|---|---|---|---:|"]
    with tempfile.TemporaryDirectory() as source:
        for name, (path, status, how, minutes) in copies.items():
            if path:
                shutil.copyfile(path, Path(source, f"{name}.ipynb"))
            link = f"[{name}]({name}.ipynb)" if path else name
            taken = f"{minutes:.1f}" if path else ""
            lines.append(f"| {link} | {status} | {f'`{how}`' if how else ''} | {taken} |")
        toctree = [
            "",
            "```{toctree}",
            ":hidden:",
            *(n for n, run in copies.items() if run[0]),
            "```",
        ]
        runtime.write_text(Path(source, "index.md"), "\n".join([*lines, *toctree, ""]))
        _sphinx(source, folder, "-D", "root_doc=index", "-D", "include_patterns=**", "-Q")
    return Path(folder) / "index.html"


def build(folder=None):
    """Build the site from what is stored; nothing is executed or fetched.

    Args:
        folder: where to; build/site if None. What was there is removed.
    Returns:
        pathlib.Path of the start page.
    Raises:
        ValueError: Sphinx is not installed, complains, or a link or picture leads nowhere.
    """
    folder = Path(folder or FOLDER)
    if _sphinx(ROOT, folder, "--fail-on-warning", "--keep-going"):
        raise ValueError("the site was not built: Sphinx says above what is wrong")
    found = address()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if found else ():
        runtime.write_text(folder / "colab" / path.name, nbformat.writes(hosted(path, found)))
    runtime.write_text(folder / ".nojekyll", "")
    shutil.copyfile(folder / "README.html", folder / "index.html")
    if not found:
        print("No buttons for Colab: pyproject.toml names no Repository.", file=sys.stderr)
    return folder / "index.html"
