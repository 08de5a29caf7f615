"""The site: every chapter is a page, every link leads somewhere, nothing is fetched."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from course import notebooks, site
from imagegen_tf import runtime

ADDRESS = "https://github.com/someone/imagegen-tf"


class _Page(HTMLParser):
    """Collects the links, the pictures and the places of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.places, self.bare, self.fetched = [], {""}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        """Look at an element."""
        found = dict(attributes)
        self.places.update(value for name, value in attributes if name in ("id", "name") and value)
        target = found.get("href") if tag in ("a", "link") else found.get("src")
        if target is None:
            return
        self.links.append(target)
        alt = (found.get("alt") or "").strip()
        if tag == "img" and (not alt or Path(alt).name == Path(target).name):
            self.bare.append(target)
        if tag != "a" and urlsplit(target).netloc:
            self.fetched.append(target)


def faults(folder):
    """List links that lead nowhere, pictures without a text alternative, and what pages fetch."""
    folder = Path(folder).resolve()
    paths = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in paths}
    found = []
    for path, page in pages.items():
        name = path.relative_to(folder)
        found += [f"{name}: picture {target[:60]} has no text alternative" for target in page.bare]
        found += [f"{name}: fetches {target}" for target in page.fetched]
        for target in page.links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            other = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not other.is_file():
                found.append(f"{name}: {target} leads nowhere")
            elif other in pages and unquote(parts.fragment) not in pages[other].places:
                found.append(f"{name}: {target} leads to a place that is not there")
    return sorted(set(found))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the site in a process of its own, as on GitHub."""
    folder = tmp_path_factory.mktemp("site") / "site"
    code = "import sys; from course import site; site.build(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=runtime.repository(),
        env={
            **os.environ,
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_REPOSITORY": "someone/imagegen-tf",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return folder


def test_every_chapter_has_a_page_with_its_title_and_pictures(built):
    for path in notebooks.chapters():
        notebook = nbformat.read(path, as_version=4)
        page = (built / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        assert f"<h1>{title}<" in page
        pictures = [
            kind
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            for kind in output.get("data", {})
            if kind in ("image/png", "image/jpeg", "image/gif")
        ]
        assert page.count("<img ") >= len(pictures) > 0


def test_no_link_is_broken_and_nothing_is_fetched(built):
    assert faults(built) == []


def test_the_search_knows_words_of_the_chapters(built):
    index = (built / "searchindex.js").read_text(encoding="utf-8")
    assert all(word in index for word in ("perlin", "vae", "notebooks/10_flow_matching"))


def test_equations_are_mathml_and_solutions_are_folded(built):
    page = (built / "notebooks" / "10_flow_matching.html").read_text(encoding="utf-8")
    assert "<math" in page and "mathjax.js" not in page.lower() and "$$" not in page
    count = sum(
        "solution" in cell.metadata.get("tags", [])
        for cell in nbformat.read(notebooks.NOTEBOOKS / "10_flow_matching.ipynb", 4).cells
    )
    assert page.count("tag_hide-cell") == count > 0


def test_buttons_lead_to_copies_that_install_the_course_first(built):
    page = (built / "notebooks" / "04_dcgan.html").read_text(encoding="utf-8")
    place = "someone/imagegen-tf/blob/gh-pages/colab/04_dcgan.ipynb"
    assert f'href="{site.COLAB}{place}"' in page
    assert f'href="{site.KAGGLE}https://github.com/{place}"' in page
    copy = nbformat.read(built / "colab" / "04_dcgan.ipynb", as_version=4)
    nbformat.validate(copy)
    original = nbformat.read(notebooks.NOTEBOOKS / "04_dcgan.ipynb", as_version=4)
    assert copy.cells[0].source == site.INSTALL.format(address=ADDRESS)
    assert [cell.source for cell in copy.cells[1:]] == [cell.source for cell in original.cells]


def test_without_an_address_there_are_no_buttons(monkeypatch):
    for address in (None, "https://gitlab.com/someone/imagegen-tf"):
        monkeypatch.setattr(site, "address", lambda address=address: address)
        assert site.with_buttons("# A\n\nB", "04_dcgan") == "# A\n\nB"


def test_the_installing_cell_clones_and_finds_the_course(tmp_path):
    source = tmp_path / "source"
    (source / "imagegen_tf").mkdir(parents=True)
    (source / "imagegen_tf" / "__init__.py").write_text("FOUND = True\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *names, *words], cwd=source, check=True)
    code = site.INSTALL.format(address=source.as_uri())
    code = code.replace('"-m", "pip", "install"', '"-c", "pass"')  # the network is closed
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport imagegen_tf; print(imagegen_tf.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert Path(done.stdout.strip()).parent.parent.name == "imagegen-tf", done.stderr


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('<a href="no.html">x</a>', "a.html: no.html leads nowhere"),
        ('<a href="#no">x</a>', "a.html: #no leads to a place that is not there"),
        ('<a href="b.html#no">x</a>', "a.html: b.html#no leads to a place that is not there"),
        ('<img src="b.html">', "a.html: picture b.html has no text alternative"),
        ('<img src="b.html" alt="b.html">', "a.html: picture b.html has no text alternative"),
        ('<script src="https://x.org/a.js">', "a.html: fetches https://x.org/a.js"),
        ('<script src="//x.org/a.js">', "a.html: fetches //x.org/a.js"),
        ('<a href="b.html#here">x</a><a href="https://x.org">y</a>', None),
    ],
)
def test_the_check_finds(tmp_path, text, fault):
    (tmp_path / "a.html").write_text(text)
    (tmp_path / "b.html").write_text('<p id="here">')
    assert faults(tmp_path) == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("equation", "part"),
    [
        (r"\hat{x}", "<mover"),
        (r"\begin{aligned}a &= b \\ c &= d\end{aligned}", "<mtable"),
        (r"\mathcal{N}(\mu, \sigma^2)", "<mi>&#x003C3;</mi>"),
    ],
)
def test_mathml_knows_what_chapters_write_and_refuses_other_commands(equation, part):
    assert part in site.mathml(equation)
    with pytest.raises(ValueError, match=r"\\nonsense"):
        site.mathml(r"\nonsense{x}")
