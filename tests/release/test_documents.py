"""README, TEACHING and CONTRIBUTING: every command and every file that they name exists."""

import re
import shlex
import subprocess

import pytest

from course import cli
from imagegen_tf import runtime

ROOT = runtime.repository()
DOCUMENTS = ("README.md", "TEACHING.md", "CONTRIBUTING.md")


def commands(name):
    """List the commands of a document's blocks, without remarks and settings."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            line = re.sub(r"\s+# .*$", "", line).strip()
            words = shlex.split(line)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                found.append(" ".join(words))
    return found


EVERY = sorted({command for name in DOCUMENTS for command in commands(name)})


@pytest.mark.parametrize("command", EVERY)
def test_every_command_exists(command):
    words = shlex.split(command)
    if words[0] == "make":
        call = [words[0], "-n", "-o", "install", *words[1:]]
        done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and done.stdout, done.stderr
    if "-m imagegen_tf" in command:
        assert callable(cli.parser().parse_args(words[3:]).action)


def test_what_the_text_calls_a_file_is_there():
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        paths = re.findall(r"`((?:tests|imagegen_tf|course|notebooks|data|site)/[\w./-]+)`", text)
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
        for path in {*paths, *links}:
            assert (ROOT / path).exists() or "NN_topic" in path, f"{name}: {path}"


def test_the_versions_agree():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in citation
    assert f"\nlicense: {project['license']}\n" in citation
