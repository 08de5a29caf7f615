"""pages: web pages that need no network, and the file writer."""

import re

import nbformat
import pytest

from course import pages

MARKDOWN = r"""# A title

Inline $a_b * c * d$, code `$x$`, and on a line of its own:

$$p(x) = \frac{1}{2}$$

\begin{align}y &= 1 \\ z &= 2\end{align}

[next](01_noise.ipynb#Clipping), [elsewhere](https://example.org/a.ipynb)
"""
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def page():
    """The page of a notebook with text, equations, links, a picture and a widget."""
    picture = nbformat.v4.new_output(
        "display_data", {"image/png": PIXEL}, metadata={"image/png": {"alt": "one black pixel"}}
    )
    animation = nbformat.v4.new_output("display_data", {"image/gif": "R0lGODlh"})
    widget = nbformat.v4.new_output(
        "display_data",
        {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "10 of 10"},
    )
    cells = [
        nbformat.v4.new_markdown_cell(MARKDOWN),
        nbformat.v4.new_code_cell("print(1)", outputs=[picture, animation, widget]),
        nbformat.v4.new_code_cell("answer = 42", metadata={"tags": ["solution"]}),
    ]
    return pages.page(nbformat.v4.new_notebook(cells=cells), "00_start_here", ".")


def test_page_fetches_nothing(page):
    for element in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page):
        assert not re.search(r"""(?:src|href)=["'](?!data:)""", element), element
    assert "@import" not in page
    assert not re.findall(r"url\((?!['\"]?(?:data:|#))[^)]*\)", page)
    assert "<script" not in page


def test_page_draws_equations_and_leaves_code_alone(page):
    assert "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>" in page
    assert "<msub><mi>a</mi><mi>b</mi></msub><mo>*</mo><mi>c</mi>" in page
    assert "<code>$x$</code>" in page
    assert page.count("<math") == 3


def test_page_links_to_pages(page):
    assert 'href="01_noise.html#Clipping"' in page
    assert 'href="https://example.org/a.ipynb"' in page


def test_page_shows_pictures_with_their_text_and_widgets_as_text(page):
    assert f"data:image/png;base64,{PIXEL}" in page
    assert 'alt="one black pixel"' in page
    assert "data:image/gif;base64,R0lGODlh" in page
    assert "10 of 10" in page
    assert "<title>00_start_here</title>" in page


@pytest.mark.parametrize(
    ("equation", "part"),
    [
        (r"\hat{x}", "<mover"),
        (r"\begin{aligned}a &= b \\ c &= d\end{aligned}", "<mtable"),
        (r"\begin{pmatrix}1 & 0 \\ 0 & 1\end{pmatrix}", "<mtable>"),
        (r"\mathcal{N}(\mu, \sigma^2)", "<mi>&#x003C3;</mi>"),
        (r"\operatorname{clip}(x)", "<mo>clip</mo>"),
    ],
)
def test_mathml_knows(equation, part):
    assert part in pages.mathml(equation)


def test_mathml_refuses_a_command_that_it_does_not_know():
    with pytest.raises(ValueError, match=r"\\nonsense"):
        pages.mathml(r"\nonsense{x}")


def test_page_shows_the_source_of_an_equation_that_it_cannot_draw():
    cell = nbformat.v4.new_markdown_cell(r"$\nonsense < 1$")
    page = pages.page(nbformat.v4.new_notebook(cells=[cell]), "a", ".")
    assert r"<code>\nonsense &lt; 1</code>" in page


def test_index_escapes_names():
    assert "a&lt;b" in pages.index([("a<b", "passed", "quick", 1.0)])


def test_solutions_and_nothing_else_are_folded(page):
    folded = re.findall("<details>.*?</details>", page, flags=re.DOTALL)
    assert len(folded) == 1
    assert "42" in folded[0] and "print" not in folded[0]
