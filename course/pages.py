"""Web pages of executed chapters, readable without a network: nothing in them is fetched.

Pictures and styles are inside the page. Equations become MathML, which browsers draw by themselves,
where nbconvert's own pages would fetch MathJax. Solutions are folded.
"""

import copy
import html
import re

from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

TEMPLATE = """
{% extends 'index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}
<style>
mtd[columnalign=right] { text-align: right; } mtd[columnalign=left] { text-align: left; }
details { margin: 1em 0; } summary { cursor: pointer; padding-left: 6em; }
mtable[columnspacing="0em"] mtd { padding-left: 0; padding-right: 0; }
</style>
{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block any_cell %}
{% if "solution" in cell.metadata.get("tags", []) %}
<details><summary>Show the solution</summary>{{ super() }}</details>
{% else %}{{ super() }}{% endif %}
{% endblock %}
"""
INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Chapters</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 40em; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; }}
td, th {{ text-align: left; padding: 0.2em 2em 0.2em 0; border-bottom: 1px solid #ccc; }}
td:last-child, th:last-child {{ text-align: right; padding-right: 0; }}
</style>
</head>
<body>
<h1>Chapters</h1>
<table>
<tr><th>chapter</th><th>status</th><th>profile</th><th>minutes</th></tr>
{rows}
</table>
</body>
</html>
"""


def mathml(equation, display="inline"):
    """Turn an equation from LaTeX into MathML.

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


def page(notebook, chapter, folder):
    """Turn a notebook into one page of HTML that needs no network.

    Args:
        notebook: nbformat notebook, executed or not.
        chapter: title of the page.
        folder: where the notebook lives, for pictures beside it.
    Returns:
        str.
    """
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            _show_picture(output)
    exporter = _Exporter(raw_template=TEMPLATE, embed_images=True)
    resources = {"metadata": {"name": chapter, "path": str(folder)}}
    text, _ = exporter.from_notebook_node(notebook, resources)
    return text


def index(rows):
    """List chapters on a page of their own, each linked where it has a page.

    Args:
        rows: (chapter, status, profile and settings, minutes) each; the minutes of a chapter that
            was not yet run are None.
    Returns:
        str.
    Example:
        >>> "not run" in index([("00_start_here", "not run", "", None)])
        True
    """
    lines = []
    for chapter, status, how, minutes in rows:
        name = html.escape(chapter)
        link = name if minutes is None else f'<a href="{name}.html">{name}</a>'
        taken = "" if minutes is None else f"{minutes:.1f}"
        cells = "".join(f"<td>{text}</td>" for text in (link, status, html.escape(how), taken))
        lines.append(f"<tr>{cells}</tr>")
    return INDEX.format(rows="\n".join(lines))


def _show_picture(output):
    """Turn a picture among outputs into HTML: nbconvert drops its text alternative, and GIFs."""
    for kind in ("image/png", "image/jpeg", "image/gif"):
        if kind in output.get("data", {}):
            metadata = output.metadata.get(kind, {}) | output.metadata
            alt = html.escape(metadata.get("alt", ""))
            source = f"data:{kind};base64,{output.data[kind].strip()}"
            output.data = {"text/html": f'<img src="{source}" alt="{alt}">'}


class _Renderer(IPythonRenderer):
    """Markdown to HTML, with equations as MathML and links to chapters as links to their pages."""

    def block_math(self, body):
        return _drawn(body, "block")

    def inline_math(self, body):
        return _drawn(body, "inline")

    def latex_environment(self, name, body):
        equation = rf"\begin{{{name}}}{body}\end{{{name}}}"
        return _drawn(equation, "block")

    def link(self, text, url, title=None):
        return super().link(text, re.sub(r"^(\w+)\.ipynb(?=#|$)", r"\1.html", url), title)


def _drawn(equation, display):
    """Draw an equation, or show its source where it cannot be drawn."""
    try:
        return mathml(equation, display)
    except Exception:  # the converter raises many kinds; a page with one bare equation beats none
        return f"<code>{html.escape(equation)}</code>"


class _Exporter(HTMLExporter):
    """nbconvert's exporter with our Markdown renderer."""

    @pass_context
    def markdown2html(self, context, source):
        renderer = _Renderer(
            escape=False,
            attachments=context.get("cell", {}).get("attachments", {}),
            embed_images=True,
            path=context.get("resources", {}).get("metadata", {}).get("path", ""),
        )
        return MarkdownWithMath(renderer=renderer).render(source)
