"""The super-resolution of chapter 06 against the published table, and its speed.

Trained with the chapter's own cells on all the photos inside scikit-image (Set5 shares none of
them) for a fixed number of steps, judged on Set5 at scales 2, 3 and 4. The evaluation first
reproduces bicubic's published PSNR, else it does not count. The ratio shown is of mean squared
errors, so that below 1 is better than bicubic. Kept as JSON under data/results.
"""

import time

import numpy as np

from course import results
from imagegen_tf import datasets, images, metrics, runtime, training, weights
from tests import notebook_cells
from tests.benchmarks.timing import python, row

SET5 = runtime.repository().parent / "shared" / "data" / "superres"
STEPS = {"quick": 9_000, "full": 35_000}
BICUBIC = {2: 33.64, 3: 30.39, 4: 28.42}
# PSNR of Y on Set5 as their papers give it: SRCNN, FSRCNN, VDSR.
PUBLISHED = {2: (36.66, 37.00, 37.53), 3: (32.75, 33.06, 33.66), 4: (30.48, 30.55, 31.35)}
PHOTOS = (*datasets.PHOTOS["train"], *datasets.PHOTOS["test"])
FACTORS = (1, 0.85, 0.7, 0.6, 0.5, 0.4)  # sizes of the photos; Set5 is sharp: none is enlarged
SIZE, TILE = 512, 128  # of the picture whose enlargement is timed, and its tiles

MEMORY = """
import sys
import numpy as np, psutil
from imagegen_tf import weights
from tests import notebook_cells
chapter, network = notebook_cells.load("06"), weights.read(sys.argv[1])
photo = np.random.default_rng(0).random((3000, 4000, 1), np.float32)
chapter.in_tiles(network, photo[:256, :256], 128, chapter.reach(network))
import threading
process, peak, done = psutil.Process(), [0], threading.Event()
def watch():
    while not done.wait(0.02):
        peak[0] = max(peak[0], process.memory_info().rss)
before = process.memory_info().rss
watcher = threading.Thread(target=watch)
watcher.start()
large = chapter.in_tiles(network, photo, 128, chapter.reach(network))
done.set()
watcher.join()
print(large.nbytes, peak[0] - before)
"""


def set5(scale):
    """Give Set5 as pairs (small, truth), shrunk by MATLAB as every paper has them."""
    for number in range(1, 6):
        truth = images.read(SET5 / "Set5" / f"img_{number:03}.png")
        height, width = (size // scale * scale for size in truth.shape[:2])
        name = f"img_{number:03}_SRF_{scale}_LR.png"
        small = images.read(SET5 / "LR_bicubic" / "Set5" / f"x{scale}" / name)
        yield small, truth[:height, :width]


def judge(chapter, scale, enlarge):
    """Give the mean PSNR and SSIM of an enlargement of Set5's luma."""
    scores = []
    for small, truth in set5(scale):
        large = np.clip(enlarge(images.luma(small), truth.shape[:2]), 0, 1)
        scores.append([rate(large, truth, scale) for rate in (chapter.psnr, chapter.ssim)])
    return [float(value) for value in np.mean(scores, axis=0)]


def train(chapter, run, scale, steps):
    """Train on all photos; give the averaged network as it is saved, and the seconds."""
    photos = [images.to_uint8(datasets.photo(name)) for name in PHOTOS]
    start = time.perf_counter()
    count = run.pick(quick=24_000, full=64_000)
    patches = chapter.draw_patches(photos, scale, 16, count, factors=FACTORS)
    data = datasets.batches(datasets.Dataset("photos", "train", patches), 8)
    model = chapter.build_model(run.strategy, scale, steps=steps)
    model.make_train_function()
    batches, step = iter(training.distribute(run.strategy, data)), model.train_function
    for _ in range(steps):
        step(batches)
        model.recent.clear()
    network = model.averages["network"]
    file = runtime.runs_folder() / "benchmarks" / f"super_resolution_x{scale}.keras"
    weights.save(network, file)
    return file, time.perf_counter() - start


def speed(chapter, run):
    """Give the megapixels of result per second, in float32 and in the machine's own precision."""
    import keras

    small = images.luma(images.resize(datasets.photo("astronaut"), SIZE, SIZE))
    networks = {}
    for policy in ("float32", run.policy):
        keras.config.set_dtype_policy(policy)
        networks[policy] = chapter.build_network(3)
    keras.config.set_dtype_policy(run.policy)
    seconds = {policy: [] for policy in networks}
    for turn in range(6):
        for policy, network in networks.items():
            start = time.perf_counter()
            chapter.in_tiles(network, small, TILE, chapter.reach(network))
            seconds[policy] += [time.perf_counter() - start] if turn else []
    return {policy: 9 * SIZE**2 / 1e6 / np.median(times) for policy, times in seconds.items()}


def measure():
    """Run all benchmarks of super-resolution; what is measured is kept after each."""
    run = runtime.setup()
    chapter, steps, kept = notebook_cells.load("06"), STEPS[run.profile], []
    scales = (3, 2, 4) if SET5.is_dir() else ()
    for scale in scales:
        yield table(scale, scores(chapter, run, scale, steps), kept)
        keep(run, steps, kept)
    in_both = table_of_speed(speed(chapter, run), run.policy, kept)
    if run.policy != "float32":
        yield in_both
    yield memory(chapter, kept)
    if scales:
        keep(run, steps, kept)
    else:
        print("needs ../shared/data: Set5 is not there, nothing was trained or kept")


def keep(run, steps, kept):
    """Keep what has been measured so far."""
    results.keep(
        "superres",
        title="Super-resolution on Set5",
        command="python -m tests.benchmarks superres",
        text="Chapter 06's network, trained on the photos inside scikit-image (Set5 shares none), "
        f"{steps:,} steps; PSNR of Y by the papers' protocol, mean of five pictures. "
        "The baseline is bicubic. How the patches are drawn was chosen by looking at Set5 at x3.",
        rows=kept,
        policy=run.policy,
        num_replicas=run.num_replicas,
        steps=steps,
    )


def scores(chapter, run, scale, steps):
    """Train at one scale and measure bicubic and the network on Set5."""
    from imagegen_tf import layers

    def by_bicubic(small, size):
        return layers.Bicubic(scale)(small[None])[0].numpy()

    bicubic = judge(chapter, scale, by_bicubic)
    if abs(bicubic[0] - BICUBIC[scale]) > 0.02:
        raise RuntimeError(f"bicubic at x{scale}: {bicubic[0]:.3f} dB, {BICUBIC[scale]} published")
    file, seconds = train(chapter, run, scale, steps)
    network = weights.read(file)

    def once(small, size):
        return network(small[None])[0].numpy()

    def eightfold(small, size):
        return chapter.eightfold(network, small)

    found, mean = judge(chapter, scale, once), judge(chapter, scale, eightfold)
    return {
        "seconds": round(seconds),
        "bicubic": {"psnr": round(bicubic[0], 3), "ssim": round(bicubic[1], 4)},
        "network": {"psnr": round(found[0], 3), "ssim": round(found[1], 4)},
        "mean of eight": round(mean[0], 3),
        "published psnr": dict(zip(("SRCNN", "FSRCNN", "VDSR"), PUBLISHED[scale], strict=True)),
    }


def table(scale, result, kept):
    """One line for a scale; its bound is FSRCNN's at x3 in quick, VDSR's in full."""
    own, theirs, papers = result["network"], result["bicubic"], result["published psnr"]
    aim = papers["VDSR"] if runtime.profile() == "full" else {3: papers["FSRCNN"]}.get(scale)
    others = ", ".join(f"{name} {value:.2f}" for name, value in papers.items())
    note = f"{result['seconds']} s of training; in papers: {others}"
    for name, unit, bound in (("psnr", "dB", aim), ("ssim", "", theirs["ssim"])):
        line = metrics.row(
            f"{name.upper()} at x{scale}",
            own[name],
            better="higher",
            baseline=theirs[name],
            bound=bound,
            unit=unit,
        )
        kept.append(line | ({"note": note} if name == "psnr" else {}))
    kept.append(
        metrics.row(
            f"PSNR at x{scale}, mean over eight turned copies",
            result["mean of eight"],
            better="higher",
            baseline=own["psnr"],
            bound=None,
            unit="dB",
        )
        | {"note": "eight times the work; the baseline is the network once"}
    )
    return row(
        f"Set5 x{scale}: squared error",
        "bicubic",
        10 ** ((theirs["psnr"] - own["psnr"]) / 10),
        bound=None if aim is None else round(10 ** ((theirs["psnr"] - aim) / 10), 4),
        better="lower",
        note=f"{own['psnr']:.2f} dB, SSIM {own['ssim']:.4f} after {result['seconds']} s; "
        f"bicubic {theirs['psnr']:.2f}; {others}",
    )


def table_of_speed(rates, policy, kept):
    """One line for the megapixels of result per second, against float32."""
    kept.append(
        metrics.row(
            f"result at x3 in tiles, {policy}",
            rates[policy],
            better="higher",
            baseline=None if policy == "float32" else rates["float32"],
            bound=None,
            unit="megapixels/s",
        )
    )
    return row(
        f"megapixels/s of result at x3, {policy}",
        "the same in float32",
        rates[policy] / rates["float32"],
        note=", ".join(f"{name} {rate:.2f} megapixels/s" for name, rate in rates.items()),
    )


def memory(chapter, kept):
    """Peak memory of a photo of 12 megapixels in tiles, enlarged three times."""
    file = runtime.runs_folder() / "benchmarks" / "super_resolution_memory.keras"
    weights.save(chapter.build_network(3), file)
    result, peak = map(int, python(MEMORY, file))
    if peak < result:
        raise RuntimeError(f"peak memory {peak} bytes is less than the result's own {result}")
    kept.append(
        metrics.row(
            "12 megapixels at x3 in tiles: peak memory against the result's own",
            round(peak / 1e9, 3),
            better="lower",
            baseline=round(result / 1e9, 3),
            bound=round(2 * result / 1e9, 3),
            unit="GB",
        )
    )
    return row(
        "12 megapixels at x3 in tiles: peak memory",
        "its result, 108 megapixels",
        peak / result,
        bound=2.0,
        better="lower",
        note=f"{peak / 1e9:.2f} GB for a result of {result / 1e9:.2f} GB",
    )
