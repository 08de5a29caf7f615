"""The command line and the running of chapters, on throw-away chapters of two or three cells."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from course import cli, notebooks, parameters
from imagegen_tf import runtime


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    """Start every test without settings from outside, with a runs folder of its own."""
    for name in notebooks.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path / "runs"))


def write(folder, name, *sources, parameters=None):
    """Write a chapter: a title, a parameters cell if there are any, and code cells."""
    cells = [nbformat.v4.new_markdown_cell(f"# {name}\n\nwith $x^2$ in it")]
    if parameters:
        cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def printed(path):
    """Join what the cells of an executed notebook printed."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


@pytest.fixture
def folder(tmp_path):
    """A folder with three chapters and a file that is none."""
    for name in ("00_start_here", "01_noise_images", "10_text_to_image"):
        write(tmp_path / "notebooks", name)
    write(tmp_path / "notebooks", "scratch")
    return tmp_path / "notebooks"


def test_chapters_are_found_by_number_or_name(folder, tmp_path):
    names = ["00_start_here", "01_noise_images", "10_text_to_image"]
    for asked, expected in (
        ((), names),
        (("1",), names[1:2]),
        (("noise_images", "01_noise_images.ipynb"), names[1:2]),
        (("10", "00", "start_here"), [names[0], names[2]]),
    ):
        assert [path.stem for path in notebooks.chapters(asked, folder)] == expected
    for name in ("02", "scratch", "noise", ""):
        with pytest.raises(ValueError, match=f"no chapter '{name}', expected one of 00_start_here"):
            notebooks.chapters([name], folder)
    with pytest.raises(ValueError, match="no chapters"):
        notebooks.chapters(folder=tmp_path)


PARAMETERS = """\
STEPS = runtime.pick(
    quick=20, full=20_000
)
TRAIN = True; RATE: float = 1e-3
DATASET = "digits"
SIZES = (28, 64)
SECONDS = 20 * 60 if TRAIN else 1
PAIR = make()"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("STEPS=200", 200),
        ("STEPS=1e4", 10_000),
        ("SECONDS=5", 5),
        ("RATE=1", 1.0),
        ("RATE=-1e-3", -0.001),
        ("TRAIN=false", False),
        ("TRAIN=No", False),
        ("TRAIN=1", True),
        ("SIZES=[32]", (32,)),
        ("DATASET=folder:a=b", "folder:a=b"),
        ("DATASET=20240131_101500", "20240131_101500"),
        ("DATASET='12'", "12"),
        ("DATASET=None", "None"),
        ("DATASET=", ""),
        ("PAIR=(1, 2)", (1, 2)),
        ("STEPS=many", "expected a value like 20, got 'many'"),
        ("STEPS=1.5", "expected a value like 20, got '1.5'"),
        ("STEPS=True", "expected a value like 20, got 'True'"),
        ("TRAIN=2", "expected a value like True, got '2'"),
        ("SIZES=28", "expected a value like"),
        ("RATE=fast", "expected a value like 0.001"),
    ],
)
def test_what_is_typed_gets_the_type_that_the_parameter_has(tmp_path, text, value):
    name, typed = parameters.parse(text)
    path = write(tmp_path, "00_a", parameters=PARAMETERS)
    if isinstance(value, str) and value.startswith("expected"):
        with pytest.raises(ValueError, match=f"{name}: {re.escape(value)}"):
            notebooks.prepare(path, {name: typed})
        return
    names = {"make": lambda: None, "runtime": runtime}
    exec(notebooks.prepare(path, {name: typed}).cells[1].source, names)
    assert names[name] == value and type(names[name]) is type(value)


def test_settings_without_a_name_and_seeds_below_zero_are_refused(tmp_path):
    for text in ("STEPS", "=3", "2=3", "A B=3"):
        with pytest.raises(ValueError, match="expected NAME=VALUE"):
            parameters.parse(text)
    with pytest.raises(ValueError, match="SEED is -1, expected 0 or more"):
        notebooks.prepare(write(tmp_path, "00_a", parameters="SEED = 0"), {"SEED": "-1"})


def test_prepare_puts_the_values_in_the_place_of_the_old_ones(tmp_path):
    lines = (
        "STEPS = pick(\n    quick=1, full=2\n)  # größer ist länger",
        "SIZE: int = 2; NAME = 'ä'  # a name",
        "SIZES = (1, 2)",
        "TWICE = 2 * SIZE",
        "OWN = NAME != 'ä'",
    )
    path = write(tmp_path, "00_a", "print(STEPS)", parameters="\n".join(lines))
    settings = {"STEPS": 7, "SIZE": 8, "NAME": "o'ö", "SIZES": (3,)}
    notebook = notebooks.prepare(path, settings)
    source, after = notebook.cells[1].source, notebook.cells[2].source
    values = {}
    exec(source, values)
    assert {name: values[name] for name in settings} == settings
    assert (values["TWICE"], values["OWN"]) == (16, True)
    assert "# größer ist länger" in source and "# a name" in source
    assert after == "print(STEPS)"


def test_prepare_refuses_unknown_parameters_and_drops_stored_outputs(tmp_path):
    path = write(tmp_path, "00_a", "2", parameters="STEPS = [i for i in range(3)]\nSEED = 0")
    for name in ("WRONG", "i", "steps"):
        with pytest.raises(ValueError, match=f"^00_a has no parameter {name}, expected STEPS, SE"):
            notebooks.prepare(path, {name: 1})
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="from an earlier run")]
    nbformat.write(notebook, path)
    assert notebooks.prepare(path, {}).cells[2].outputs == []
    bare = write(tmp_path, "01_b", "STEPS = 1")
    with pytest.raises(ValueError, match="^01_b has no parameters cell, so STEPS cannot be set$"):
        notebooks.prepare(bare, {"STEPS": 1})


def test_run_keeps_copy_page_and_index_and_goes_on_after_a_failure(tmp_path, monkeypatch, capfd):
    # A kernel of the same name elsewhere on the machine must not be taken: this one cannot start.
    foreign = tmp_path / "jupyter" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "foreign", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IMAGEGEN_PROFILE", "full")
    paths = [
        write(
            tmp_path / "n", "00_bad", "def half():\n    return 1 / 0\n\nhalf()", "print('never')"
        ),
        write(
            tmp_path / "n",
            "01_good",
            "import os, sys\nprint(STEPS, os.environ['IMAGEGEN_PROFILE'])",
            "print(sys.executable)\nprint(os.getcwd())",
            parameters="STEPS = 1",
        ),
        write(
            tmp_path / "n",
            "02_dead",
            "import os\nos.write(2, b'last words\\n')\nos.kill(os.getpid(), 9)",
        ),
    ]

    outcomes = notebooks.run(paths[:1] + paths[2:]) + notebooks.run(paths[1:2], {"STEPS": 5})

    assert [(outcome.chapter, outcome.status) for outcome in outcomes] == [
        ("00_bad", "failed"),
        ("02_dead", "failed"),
        ("01_good", "passed"),
    ]
    captured = capfd.readouterr()
    assert captured.err == ""  # neither Jupyter's warnings nor, without a terminal, a progress bar
    assert "01_good                  passed after 0." in captured.out
    runs = tmp_path / "runs"
    assert printed(runs / "01_good" / "01_good.ipynb").split("\n") == [
        "5 full",
        sys.executable,
        str(tmp_path / "n"),
        "",
    ]
    explanation = notebooks.explain(outcomes)
    assert "00_bad failed in cell 2 of 3 (In [1]):" in explanation
    assert "ZeroDivisionError: division by zero" in explanation
    assert "The kernel died" in explanation
    assert "01_good" not in explanation
    assert notebooks.explain(outcomes[2:]) == ""
    # The executed copy of a failed chapter shows the error, and nothing from below it.
    assert "never" not in printed(runs / "00_bad" / "00_bad.ipynb")
    page = (runs / "pages" / "00_bad.html").read_text(encoding="utf-8")
    assert "ZeroDivisionError" in page
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in page
    index = (runs / "pages" / "index.html").read_text(encoding="utf-8")
    cells = [
        re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", index, re.S)
    ]
    assert cells[:3] == ["00_bad", "failed", "full"]
    assert cells[4:7] == ["01_good", "passed", "full STEPS=5"]
    assert 'href="01_good.html"' in index
    kept = {path.name for path in runs.rglob("*.ipynb") if path.parent.parent == runs}
    assert kept == {"00_bad.ipynb", "01_good.ipynb", "02_dead.ipynb"}


def test_run_refuses_before_anything_runs(tmp_path):
    good = write(tmp_path / "n", "00_a", parameters="STEPS = 1")
    bad = write(tmp_path / "n", "01_b")
    with pytest.raises(ValueError, match="01_b has no parameters cell"):
        notebooks.run([good, bad], {"STEPS": 2})
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_stops_cleanly(tmp_path):
    if sys.platform == "win32":
        return  # Windows has no signal to send to one process only
    write(
        tmp_path / "n", "00_a", f"open({str(tmp_path / 'begun')!r}, 'w').close()", "while True: 0"
    )
    script = (  # in a background job the signal is ignored unless it is asked for
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from pathlib import Path; from course import cli, notebooks;"
        f"notebooks.NOTEBOOKS = Path({str(tmp_path / 'n')!r});"
        "raise SystemExit(cli.main(['run']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not (tmp_path / "begun").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err.strip()) == (130, "", "Stopped.")
    assert not (tmp_path / "runs").exists()


def test_refresh_stores_the_same_bytes_each_time_and_nothing_of_a_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_PROFILE", "full")  # refresh is always quick
    good = write(tmp_path, "00_good", "import os\nprint(os.environ.get('IMAGEGEN_PROFILE'))")
    notebook = nbformat.read(good, as_version=4)
    notebook.metadata["papermill"] = {"duration": 3.1}
    notebook.cells[1].metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    notebook.cells[1].metadata["tags"] = ["model"]
    nbformat.write(notebook, good)
    bad = write(tmp_path, "01_bad", "1 / 0")
    before = bad.read_bytes()

    outcomes = notebooks.refresh([good, bad])
    first = good.read_bytes()
    notebooks.refresh([good])

    assert [outcome.status for outcome in outcomes] == ["passed", "failed"]
    assert bad.read_bytes() == before
    assert good.read_bytes() == first
    assert first.endswith(b"}\n") and not first.endswith(b"\n\n")
    assert printed(good) == "None\n"
    notebook = nbformat.read(good, as_version=4)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert notebook.cells[1].metadata == {"tags": ["model"]}
    assert notebook.cells[1].execution_count == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00_good.ipynb", "01_bad.ipynb"]


def test_lab_opens_the_first_chapter_and_passes_arguments_on(monkeypatch):
    from jupyterlab.labapp import LabApp

    seen = []
    monkeypatch.setattr(LabApp, "launch_instance", seen.extend)
    assert cli.main(["lab", "--no-browser", "--port", "9999"]) == 0
    assert seen[0] == str(runtime.repository() / "notebooks" / "00_start_here.ipynb")
    assert f"--ServerApp.root_dir={runtime.repository()}" in seen
    assert seen[-3:] == ["--no-browser", "--port", "9999"]


@pytest.mark.parametrize("failing", [None, "check", "format", "pytest"])
def test_test_fails_if_any_of_its_parts_does(monkeypatch, failing):
    seen = []

    def run(command, env, **_):
        seen.append((command, env))
        return subprocess.CompletedProcess(command, int(failing in command))

    monkeypatch.setenv("IMAGEGEN_DATA", "elsewhere")
    monkeypatch.setattr(notebooks, "_closed_network", lambda: ["closed"])
    monkeypatch.setattr(notebooks.subprocess, "run", run)
    assert notebooks.test() is (failing is None)
    assert len(seen) == 4
    for command, environment in seen[2:]:
        assert command[0] == "closed" and {"--nbval-lax", "--nbval-current-env"} < set(command)
        assert "IMAGEGEN_DATA" not in environment
        assert environment["IMAGEGEN_RUNS"] != os.environ["IMAGEGEN_RUNS"]
    together, alone = ([part for part in command if ".ipynb" in part] for command, _ in seen[2:])
    assert {"--doctest-modules", "--dist=loadscope", "imagegen_tf", "tests"} < set(seen[2][0])
    assert alone == [str(notebooks.NOTEBOOKS / "13_scaling_up.ipynb")]
    every = [str(path) for path in [*notebooks.chapters(), notebooks.TEMPLATE]]
    assert sorted(together + alone) == sorted(every)


def test_closed_network_leaves_only_loopback():
    prefix = notebooks._closed_network()
    if not prefix:  # `test` says so in a line
        probe = ["unshare", "--map-root-user", "--net", "ip", "link", "set", "lo", "up"]
        can = shutil.which("unshare") and shutil.which("ip")
        assert not can or subprocess.run(probe, capture_output=True, check=False).returncode
        return
    script = (
        "import os, socket; server = socket.create_server(('127.0.0.1', 0));"
        "socket.create_connection(server.getsockname());"
        "print(os.readlink('/proc/self/ns/net'), *(name for _, name in socket.if_nameindex()))"
    )
    result = subprocess.run(
        [*prefix, sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    place, *interfaces = result.stdout.split()
    # Another network than this process has, which may itself be closed.
    assert place != os.readlink("/proc/self/ns/net")
    assert interfaces == ["lo"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "77"], "there is no chapter '77', expected one of"),
        (["run", "00", "--set", "STEPS"], "expected NAME=VALUE after --set, got 'STEPS'"),
        (["run", "00", "--set", "WRONG=1"], "has no parameter"),
        (["run", "00", "--set", "SEED=a"], "SEED: expected a value like 0, got 'a'"),
        (["notebooks", "77"], "there is no chapter '77'"),
        (["run", "00"], "IMAGEGEN_RUNS: expected a folder, got the file"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(words, sentence, folder, monkeypatch, capsys):
    write(folder, "00_start_here", parameters="SEED = 0")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", folder)
    if "IMAGEGEN_RUNS" in sentence:
        monkeypatch.setenv("IMAGEGEN_RUNS", __file__)
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_the_parser_refuses_what_it_does_not_know(capsys):
    for words in (["run", "--wrong"], ["walk"], [], ["run", "--seeds", "0", "1", "02"]):
        with pytest.raises(SystemExit) as exit:
            cli.main(words)
        assert exit.value.code == 2
        assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_letters_that_a_pipe_does_not_know_stop_nothing(tmp_path, encoding):
    script = (
        "from course import cli\n"
        r"def doctor(_): print('\u017c\u00f3\u0142w \udcff')" + "\n"
        "cli.doctor = doctor; cli.main(['doctor'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"") and b"w ?" in done.stdout


def test_run_reports_failures_in_its_exit_status(monkeypatch, folder, capsys):
    outcomes = [
        notebooks.Outcome("00_a", 1.0),
        notebooks.Outcome("01_b", 1.0, "cell 2 of 3", "Oh: no"),
    ]
    monkeypatch.setattr(notebooks, "NOTEBOOKS", folder)
    monkeypatch.setattr(notebooks, "run", lambda paths, settings, kept: outcomes)
    monkeypatch.setenv("IMAGEGEN_PROFILE", "quick")
    assert cli.main(["run", "--profile", "full", "--set", "A=1", "B=x"]) == 1
    assert os.environ["IMAGEGEN_PROFILE"] == "full"
    assert capsys.readouterr().err == "\n01_b failed in cell 2 of 3:\n    Oh: no\n"
    monkeypatch.setattr(notebooks, "run", lambda paths, settings, kept: outcomes[:1])
    assert cli.main(["run"]) == 0
