"""JupyterLab in a real browser: chapters run from its menu, and what one can move is moved.

make test-browser installs Playwright and calls this. The chapters take their shipped networks, so
that all five together run in minutes. Pictures of the pages go to runs/screenshots.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from playwright.sync_api import expect, sync_playwright

from course import notebooks, parameters
from imagegen_tf import runtime

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 900  # that a chapter may take on a busy machine
COPIES = runtime.repository() / "build" / "browser"
SCREENSHOTS = runtime.runs_folder() / "screenshots"
OPTIONS = ["--no-browser", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
STATE = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const cells = panel.content.widgets.filter(cell => cell.model.type === 'code');
  return cells.filter(cell => cell.model.sharedModel.getSource().trim()).map(cell => [
    cell.model.executionCount, cell.model.executionState ?? 'idle',
    cell.model.outputs.toJSON().filter(one => one.output_type === 'error').map(one => one.evalue),
  ]);
}"""
SHOW = """index => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.activeCellIndex = index;
  return notebook.scrollToItem(index, 'start');
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start JupyterLab as `make lab` does; give its address."""
    for path in notebooks.chapters(["01", "05", "07", "11", "12"]):
        known = parameters.names(notebooks.prepare(path, {}))
        notebook = notebooks.prepare(path, {"TRAIN": False} if "TRAIN" in known else {})
        runtime.write_text(COPIES / path.name, notebooks.as_text(notebook))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [*OPTIONS, f"--port={port}"]
    if hasattr(os, "getuid") and os.getuid() == 0:
        options.append("--allow-root")
    folder = tmp_path_factory.mktemp("runs")
    address = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "imagegen_tf", "lab", *options],
            cwd=runtime.repository(),
            env=os.environ | {"IMAGEGEN_RUNS": str(folder)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(server, f"{address}/api/status", folder / "log")
            yield address
        finally:
            server.terminate()
            server.wait(30)


def wait_for(server, address, log):
    """Wait until the server answers."""
    for _ in range(120):
        assert server.poll() is None, log.read_text()
        try:
            return json.load(urllib.request.urlopen(address))
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def browser():
    """Start the system's Chromium."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found, f"no browser: install one of {', '.join(BROWSERS)}"
    with sync_playwright() as playwright:
        # A container's user is root, for whom Chromium's own sandbox does not start.
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def chapter(lab, browser, request):
    """Open a chapter, run all its cells from the menu, and wait; give the page."""
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    complaints = []
    page.on("console", lambda text: complaints.append(text) if text.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(error))
    name = request.param
    page.goto(f"{lab}/lab/tree/build/browser/{name}.ipynb?reset", timeout=90_000)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
    page.wait_for_selector(".jp-NotebookPanel-toolbar [data-status='idle']", timeout=90_000)
    run_all(page, name)
    wait_until_done(page)
    yield page
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:shutdown-kernel')")
    page.close()
    # What JupyterLab's own parts say of missing files or services is not about our widgets.
    ours = [str(text) for text in complaints if "widget" in str(text).lower()]
    assert not ours


def run_all(page, name):
    """Choose Run All Cells from the menu; again if JupyterLab was not ready for it yet."""
    for _ in range(5):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).first.click()
        page.wait_for_timeout(3_000)
        if any(count or state != "idle" for count, state, _ in page.evaluate(STATE)):
            return
        page.keyboard.press("Escape")
    page.screenshot(path=SCREENSHOTS / f"{name}_not_started.png")
    raise AssertionError("Run All Cells starts nothing")


def wait_until_done(page):
    """Wait until every cell has run; none may show an error."""
    began = time.monotonic()
    while time.monotonic() - began < SECONDS:
        page.wait_for_timeout(1_000)
        cells = page.evaluate(STATE)
        errors = [error for _, _, each in cells for error in each]
        assert not errors, errors
        if all(count and state == "idle" for count, state, _ in cells):
            return
    raise AssertionError(f"not done after {SECONDS} seconds: {cells}")


def show(page, source):
    """Scroll to the first code cell that contains a text; give its index."""
    sources = page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets"
        ".map(cell => cell.model.sharedModel.getSource())"
    )
    index = next(i for i, text in enumerate(sources) if source in text)
    page.evaluate(SHOW, index)
    page.wait_for_timeout(1_500)
    return index


def run_cell(page, source):
    """Run one cell again, as its menu does; give the text of its outputs."""
    index = show(page, source)
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-cell')")
    wait_until_done(page)
    return page.evaluate(
        "index => JSON.stringify(window.jupyterapp.shell.currentWidget.content.widgets[index]"
        ".model.outputs.toJSON().map(one => one.text ?? one.data))",
        index,
    )


def shoot(page, name):
    """Keep a picture of what is seen."""
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


@pytest.mark.parametrize("chapter", ["01_noise_images"], indirect=True)
def test_noise_runs(chapter):
    assert len(chapter.evaluate(STATE)) > 10


@pytest.mark.parametrize("chapter", ["05_vae"], indirect=True)
def test_the_slider_moves_and_the_picture_changes(chapter):
    show(chapter, "plots.traverse(")
    picture = chapter.locator(".widget-html img").first
    before = picture.get_attribute("src")
    handle = chapter.locator(".widget-slider .noUi-handle").first
    handle.focus()
    for _ in range(15):
        chapter.keyboard.press("ArrowRight")
    expect(picture).not_to_have_attribute("src", before, timeout=60_000)
    shoot(chapter, "05_slider")


@pytest.mark.parametrize("chapter", ["07_inpainting"], indirect=True)
def test_a_mask_is_painted(chapter):
    before = run_cell(chapter, "widgets.strokes_of(painting)")
    show(chapter, "widgets.painter(")
    canvas = chapter.locator("canvas[aria-label]").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    chapter.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.3 * box["height"])
    chapter.mouse.down()
    for place in range(1, 11):
        chapter.mouse.move(
            box["x"] + (0.2 + 0.05 * place) * box["width"], box["y"] + 0.4 * box["height"]
        )
    chapter.mouse.up()
    chapter.wait_for_timeout(1_000)
    shoot(chapter, "07_painted")
    assert run_cell(chapter, "widgets.strokes_of(painting)") != before
    for source in (
        "rows, columns = (np.flatnonzero(own",
        '"network": complete(network, scene, own)',
    ):
        run_cell(chapter, source)
    shoot(chapter, "07_filled")


@pytest.mark.parametrize("chapter", ["11_text_to_image"], indirect=True)
def test_a_prompt_is_typed(chapter):
    show(chapter, "widgets.prompt(")
    picture = chapter.locator(".widget-html img").first
    before = picture.get_attribute("src")
    field = chapter.locator(".widget-text input").first
    field.fill("a small yellow heart above a large blue ring")
    field.press("Enter")
    expect(picture).not_to_have_attribute("src", before, timeout=120_000)
    shoot(chapter, "11_prompt")


@pytest.mark.parametrize("chapter", ["12_evaluation"], indirect=True)
def test_the_quiz_is_answered(chapter):
    show(chapter, 'widgets.quiz(quiz, ("real", "generated"))')
    for name, count in (("real", 5), ("generated", 100)):
        button = chapter.get_by_role("button", name=name, exact=True).first
        for _ in range(count):
            if button.is_disabled():
                break
            button.click()
            chapter.wait_for_timeout(250)
    expect(chapter.get_by_text("Run the next cell").first).to_be_visible()
    shoot(chapter, "12_quiz")
    run_cell(chapter, "widgets.answers_of(box)")
