"""The flow of chapter 10 against the GAN of chapter 04, on the same data, at equal time.

Both train in turns of a few seconds in one process, so that a busy machine slows both down alike.
Both are judged by their averaged weights, with as many samples against as many test pictures. Kept
as JSON under data/results. No bound says who must win.
"""

import numpy as np

from course import results
from imagegen_tf import datasets, metrics, runtime, training
from tests import notebook_cells
from tests.benchmarks.timing import in_turns, row

SECONDS = {"quick": 100, "full": 1_000}  # of training, for each of the two
SAMPLES = {"quick": 2_000, "full": 10_000}
BATCH = {"flow": 32, "GAN": 64}  # as the chapters' quick profiles have them
STEPS = 10  # of Euler


def flow_of(run, chapter, data, steps):
    """A flow that is ready to train, and its pictures without end."""
    flow = chapter.build_flow(run.strategy, 28, data.images.shape[-1], 10, steps=steps)
    flow.make_train_function()
    return flow, iter(datasets.batches(data, BATCH["flow"], labels=True))


def measure():
    """Train both, and compare their pictures."""
    run = runtime.setup()
    seconds, count = SECONDS[run.profile], SAMPLES[run.profile]
    data, test = datasets.load("digits"), datasets.load("digits", "test")
    flows, gans = notebook_cells.load("10"), notebook_cells.load("04")
    trial, batches = flow_of(run, flows, data, 1_000)
    (tried,) = in_turns(8, lambda: trial.train_function(batches))
    # The rate decays over the training's length, so that length must be known: it is estimated.
    flow, batches = flow_of(run, flows, data, tried * seconds // 8)
    gan = gans.build_gan(run.strategy, 64, 28, 1)
    gan.make_train_function()
    reals = iter(datasets.batches(data, BATCH["GAN"]))
    counts = in_turns(
        seconds, lambda: flow.train_function(batches), lambda: gan.train_function(reals)
    )
    asked = np.arange(count) % 10
    latents = np.random.default_rng(0).standard_normal((count, 64)).astype(np.float32)
    invented = training.predict(gan.averages["generator"], latents) / 2 + 0.5
    made = {
        "flow": flows.sample(flow.averages["velocity"], asked, steps=STEPS),
        "GAN": np.clip(invented, 0, 1),
    }
    scores = judge(data, test, made, count)
    keep(run, scores, counts, seconds, count)
    first, second = scores["flow"][0], scores["GAN"][0]
    yield row(
        f"flow, digits: Fréchet distance after {seconds} s",
        "chapter 04's GAN",
        first / second,
        better="lower",
        note=f"{first:.2f} and {second:.2f}, {count:,} samples, steps: {counts}",
    )


def judge(data, test, made, count):
    """Give the Fréchet distance, precision and recall of each set of pictures."""
    features = metrics.features(data)
    real = features(test.images[:count])
    found = {name: features(pictures) for name, pictures in made.items()}
    return {
        name: (metrics.frechet_distance(real, one), *metrics.precision_recall(real, one))
        for name, one in found.items()
    }


def keep(run, scores, counts, seconds, count):
    """Write the results beside those of other benchmarks; the GAN is the baseline."""
    kinds = (("Fréchet distance", "lower"), ("precision", "higher"), ("recall", "higher"))
    rows = [
        metrics.row(
            name,
            round(scores["flow"][number], 3),
            better=better,
            baseline=round(scores["GAN"][number], 3),
            bound=None,
        )
        for number, (name, better) in enumerate(kinds)
    ]
    rows[0]["note"] = f"{counts[0]:,} steps of the flow, {counts[1]:,} of the GAN"
    results.keep(
        "flow",
        title="Flow matching against a GAN, at equal time, on digits",
        command="python -m tests.benchmarks flow",
        text=f"Chapter 10's flow (batches of {BATCH['flow']}, {STEPS} steps of Euler) and, as the "
        f"baseline, chapter 04's GAN (batches of {BATCH['GAN']}), each trained for {seconds} s in "
        f"turns on one machine; averaged weights, {count:,} samples against as many test pictures, "
        "features_digits. The flow is told which digit to draw, the GAN is not.",
        rows=rows,
        policy=run.policy,
        num_replicas=run.num_replicas,
        seconds=seconds,
    )
