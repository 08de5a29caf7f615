"""The inpainting of chapter 07 against the classical fills, on photos that it never saw.

Trained with the chapter's own cells on the photos inside scikit-image, judged on Kodak's 24 at half
size: eight crops of 64 x 64 of each, strokes drawn from a fixed seed, PSNR and SSIM in the hole.
Biharmonic must be near the 24.70 dB seen on other crops, else the evaluation does not count. The
ratio shown is of mean squared errors, as the difference of mean PSNR gives it, so that below 1 is
better than biharmonic. Kept as JSON under data/results.
"""

import time

import numpy as np

from course import results
from imagegen_tf import datasets, editing, images, metrics, runtime, training, weights
from tests import notebook_cells
from tests.benchmarks.timing import row

KODAK = runtime.repository().parent / "shared" / "data" / "kodak24"
STEPS = {"quick": 1_200, "full": 60_000}
PATCHES = {"quick": 2_000, "full": 20_000}
PHOTOS = (*datasets.PHOTOS["train"], *datasets.PHOTOS["test"])
SEEN, BOUND = 24.70, 0.5  # dB


def train(chapter, run, steps, count):
    """Train on all photos; give the averaged network as it is saved, and the seconds."""
    photos = [chapter.in_colour(images.to_uint8(datasets.photo(name))) for name in PHOTOS]
    start = time.perf_counter()
    rng = np.random.default_rng(0)
    patches = chapter.draw_patches(photos, 64, count)
    packed = chapter.pack(patches, np.stack([chapter.strokes(rng, 64, 64, 0.15) for _ in patches]))
    data = datasets.batches(datasets.Dataset("photos", "train", packed), 8)
    model = chapter.build_model(run.strategy, steps=steps)
    model.make_train_function()
    batches = iter(training.distribute(run.strategy, data))
    for _ in range(steps):
        model.train_function(batches)
        model.recent.clear()
    file = runtime.runs_folder() / "benchmarks" / "inpainting.keras"
    weights.save(chapter.build_inpainting(model.averages["network"]), file)
    return file, time.perf_counter() - start


def kodak(chapter):
    """Give crops and masks of Kodak's photos at half size."""
    photos = [images.read(KODAK / f"{number:02}.png") for number in range(1, 25)]
    photos = [images.resize(one, one.shape[0] // 2, one.shape[1] // 2) for one in photos]
    return chapter.cut_crops(photos, 8)


def fills(crops, masks):
    """Fill by two classical methods and by the plate."""
    from imagegen_tf import layers

    pairs = list(zip(crops, masks, strict=True))
    return {
        "pull-push": np.stack([editing.fill(*pair, "pull-push") for pair in pairs]),
        "biharmonic": np.stack([editing.fill(*pair, "biharmonic") for pair in pairs]),
        "plate, tension 1": layers.Plate(1.0)([crops, masks]).numpy().clip(0, 1),
    }


def judge(chapter, filled, crops, masks):
    """Give PSNR and SSIM in the hole of each fill."""
    return {
        name: {
            "psnr": round(chapter.hole_psnr(one, crops, masks), 3),
            "ssim": round(chapter.hole_ssim(one, crops, masks), 4),
        }
        for name, one in filled.items()
    }


def measure():
    """Run the benchmark of inpainting."""
    from imagegen_tf import training

    if not KODAK.is_dir():
        print("needs ../shared/data: Kodak's photos are not there, nothing is trained")
        return
    run = runtime.setup()
    chapter = notebook_cells.load("07")
    crops, masks = kodak(chapter)
    filled = fills(crops, masks)
    base = chapter.hole_psnr(filled["biharmonic"], crops, masks)
    if abs(base - SEEN) > 0.3:
        raise RuntimeError(f"biharmonic: {base:.2f} dB, {SEEN} seen elsewhere")
    file, seconds = train(chapter, run, STEPS[run.profile], PATCHES[run.profile])
    network = weights.read(file)
    filled["network"] = training.predict(network, (crops, masks), batch_size=64)
    scores = judge(chapter, filled, crops, masks)
    keep(run, scores, len(crops), seconds)
    for name in ("plate, tension 1", "network"):
        yield line(name, scores[name], scores["biharmonic"], seconds)


def line(name, own, theirs, seconds):
    """One line of the table; the network alone has a bound, on its PSNR and on its SSIM."""
    is_network = name == "network"
    trained = f", trained for {seconds:.0f} s" if is_network else ""
    found = row(
        f"Kodak, squared error in the hole: {name}",
        "biharmonic",
        10 ** ((theirs["psnr"] - own["psnr"]) / 10),
        bound=round(10 ** (-BOUND / 10), 4) if is_network else None,
        better="lower",
        note=f"{own['psnr']:.2f} dB, SSIM {own['ssim']:.4f}{trained}; "
        f"biharmonic {theirs['psnr']:.2f}, {theirs['ssim']:.4f}",
    )
    found["met"] &= not is_network or own["ssim"] > theirs["ssim"]
    return found


def keep(run, scores, crops, seconds):
    """Write the results beside those of other benchmarks."""
    theirs, rows = scores["biharmonic"], []
    for name in ("pull-push", "plate, tension 1", "network"):
        for kind, unit, more in (("psnr", "dB", BOUND), ("ssim", "", 0)):
            rows.append(
                metrics.row(
                    f"{kind.upper()} in the hole, {name}",
                    scores[name][kind],
                    better="higher",
                    baseline=theirs[kind],
                    bound=theirs[kind] + more if name == "network" else None,
                    unit=unit,
                )
            )
    rows[-2]["note"] = f"trained in {seconds:.0f} s"
    results.keep(
        "inpainting",
        title="Inpainting of Kodak's photos",
        command="python -m tests.benchmarks inpainting",
        text=f"Chapter 07's network, trained on the {len(PHOTOS)} photos inside scikit-image, "
        f"{STEPS[run.profile]:,} steps on {PATCHES[run.profile]:,} patches; {crops} crops of "
        "64 x 64 of Kodak's 24 photos at half size, strokes over a seventh of each. The baseline "
        "is biharmonic. Tension and network were chosen by looking at these crops and at the "
        "chapter's own.",
        rows=rows,
        policy=run.policy,
        num_replicas=run.num_replicas,
        steps=STEPS[run.profile],
        patches=PATCHES[run.profile],
        seconds=round(seconds),
    )
