"""Plant faults, one in each area, and see the tests fail: python tests/planted.py [NAME ...]

Not part of make test: it checks the tests, and takes minutes. Each fault is planted into a copy of
the checkout, by replacing one piece of text that stands there once.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAULTS = {  # name: (file, right, wrong, tests)
    "loss scale": (
        "imagegen_tf/distributed.py",
        'context.all_reduce("sum", tf.cast(~is_finite, tf.float32))',
        "tf.cast(~is_finite, tf.float32)",
        "tests/test_distributed.py -k infinity",
    ),
    "replica noise": (
        "imagegen_tf/distributed.py",
        "first = rows * context.replica_id_in_sync_group",
        "first = 0 * rows",
        "tests/test_distributed.py -k noise_that_together",
    ),
    "resume": (
        "imagegen_tf/checkpoint.py",
        "return values, progress.History(samples=samples, **notes)",
        "return values, progress.History(first=notes['first'])",
        "tests/test_training.py -k interrupted_cell",
    ),
    "half-written file": (
        "imagegen_tf/checkpoint.py",
        'with runtime.atomic_write(path) as temporary, open(temporary, "wb") as file:',
        'with open(path, "wb") as file:',
        "tests/test_training.py -k whole_or_not_at_all",
    ),
    "alpha": (
        "imagegen_tf/compositing.py",
        '"source-over": lambda source, backdrop: (1, 1 - source)',
        '"source-over": lambda source, backdrop: (1, 1)',
        "tests/test_compositing.py",
    ),
    "value range": (
        "imagegen_tf/images/arrays.py",
        "np.floor(check(image) * 255 + 0.5)",
        "np.floor(check(image) * 255)",
        "tests/test_images.py",
    ),
    "rotation": (
        "imagegen_tf/editing.py",
        "        degrees,\n        resize=expand,",
        "        -degrees,\n        resize=expand,",
        "tests/test_editing.py -k rotat",
    ),
    "caption": (
        "imagegen_tf/datasets/captions.py",
        '"left of": "right of",',
        '"left of": "left of",',
        "tests/test_scenes.py",
    ),
    "metric": (
        "imagegen_tf/metrics.py",
        "np.trace(cov_b) - 2 * cross",
        "np.trace(cov_b) - cross",
        "tests/test_metrics.py tests/test_distances.py",
    ),
    "grading": (
        "course/grading.py",
        "if name in known and name not in seen:",
        "if name in known:",
        "tests/test_grading.py -k nbgrader",
    ),
    "site": (
        "site/conf.py",
        'image["alt"] = found',
        "pass",
        "tests/test_site.py -k no_link",
    ),
    "closed network": (
        "course/notebooks.py",
        '"--map-root-user", "--net",',
        '"--map-root-user",',
        "tests/test_cli.py -k closed_network",
    ),
}


def caught(name):
    """Plant a fault; tell whether its tests fail, and pass without it."""
    file, right, wrong, tests = FAULTS[name]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        leave = shutil.ignore_patterns(".git", ".venv", "runs", "build", "*cache*")
        shutil.copytree(ROOT, copy, ignore=leave)
        codes = []
        for planted in (False, True):
            text = (copy / file).read_text("utf-8")
            assert text.count(right) == 1, (
                f"{name}: the text stands there {text.count(right)} times"
            )
            if planted:
                (copy / file).write_text(text.replace(right, wrong), "utf-8")
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-x", "-W", "ignore", *tests.split()],
                cwd=copy,
                env=os.environ | {"PYTHONPATH": str(copy)},
                capture_output=True,
                check=False,
            )
            codes.append(done.returncode)
    return codes == [0, 1]


if __name__ == "__main__":
    results = {}
    for name in sys.argv[1:] or FAULTS:
        results[name] = caught(name)
        print(f"{name:20} {'caught' if results[name] else 'NOT CAUGHT'}", flush=True)
    sys.exit(not all(results.values()))
