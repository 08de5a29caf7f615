"""One training step of every network of chapters 04 to 11, with the chapter's own cells.

Beside three passes forward, which is what a step takes by the usual rule (the way back costs two):
well below 1, something else than arithmetic takes the time. Beside float32, where this machine's
own precision is another. And beside a plainer design, where there is one. Trained on noise of the
right shape, for the time of a step does not depend on what is seen.
"""

import numpy as np

from imagegen_tf import runtime, text, training, weights
from tests import notebook_cells
from tests.benchmarks.timing import compare


def draw(run, count, *shape, highest=256, kind=np.uint8):
    """Bytes at random, so many for each replica."""
    rng = np.random.default_rng(0)
    return rng.integers(0, highest, (count * run.num_replicas, *shape)).astype(kind)


def gan(run, **options):
    """Chapter 04's GAN and a batch."""
    model = notebook_cells.load("04").build_gan(run.strategy, 64, 28, 1, **options)
    return model, draw(run, 64, 28, 28, 1)


def vae(run):
    """Chapter 05's VAE and a batch."""
    model = notebook_cells.load("05").build_vae(run.strategy, 28, 1, 16, steps=1_000)
    return model, draw(run, 128, 28, 28, 1)


def super_resolution(run):
    """Chapter 06's network at scale 3 and a batch."""
    model = notebook_cells.load("06").build_model(run.strategy, 3, steps=1_000)
    return model, draw(run, 8, 16, 16, 10)


def inpainting(run, rival=None):
    """Chapter 07's network or a plainer one, and a batch."""
    chapter = notebook_cells.load("07")
    more = {} if rival is None else {"build": chapter.rival(rival), "kind": chapter.AbsoluteError}
    model = chapter.build_model(run.strategy, steps=1_000, **more)
    patches = draw(run, 8, 64, 64, 3)
    masks = np.stack([chapter.strokes(number, 64, 64, 0.15) for number in range(len(patches))])
    return model, chapter.pack(patches, masks)


def style_transfer(run):
    """Chapter 08's network and a photo."""
    chapter = notebook_cells.load("08")
    features = chapter.build_random_features()
    targets = [chapter.gram(one) for one in features(chapter.strokes(128)[None])]
    options = {"level": 2, "content_weight": 0.01, "steps": 1_000}
    model = chapter.build_model(run.strategy, features, targets, **options)
    return model, draw(run, 1, 128, 128, 3)


def words():
    """The words of the shipped captioners, which chapters 09 and 11 use."""
    return text.Vocabulary.load(weights.FOLDER / "09_captioning" / "words.json")


def captions(run, vocabulary):
    """Rows of words at random, eight for each of 32 pictures."""
    return draw(run, 32, 8, vocabulary.length, highest=len(vocabulary), kind=np.int32)


def captioning(run):
    """Chapter 09's networks and a batch."""
    vocabulary = words()
    model = notebook_cells.load("09").build_captioner(run.strategy, vocabulary)
    return model, (draw(run, 32, 32, 32, 3), captions(run, vocabulary))


def flow(run):
    """Chapter 10's network and a batch."""
    model = notebook_cells.load("10").build_flow(run.strategy, 28, 1, 10, steps=1_000)
    return model, (draw(run, 32, 28, 28, 1), draw(run, 32, highest=10, kind=np.int64))


def text_to_image(run, side=8, channels=16):
    """Chapter 11's network on latents, or on pixels, and a batch."""
    vocabulary, shape = words(), {"side": side, "channels": channels}
    model = notebook_cells.load("11").build_model(run.strategy, vocabulary, steps=1_000, **shape)
    return model, (draw(run, 32, side, side, channels), captions(run, vocabulary))


NETWORKS = {
    "04 GAN": gan,
    "05 VAE": vae,
    "06 super-resolution": super_resolution,
    "07 inpainting": inpainting,
    "08 style transfer": style_transfer,
    "09 captioning": captioning,
    "10 flow": flow,
    "11 text to image": text_to_image,
}


def measure():
    """Time the steps."""
    run = runtime.setup()
    for name, build in NETWORKS.items():
        yield from rows_of(run, name, build)
    yield from beside_plainer(run)


def rows_of(run, name, build):
    """Compare a step with its passes forward, and with float32 if it is not float32 itself."""
    import keras

    model, batch = build(run)
    step = trainer(run, model, batch)
    step()  # compiles it, before the way back is taken out of the model
    model.minimize = lambda *_: None
    passes = model.distributed(model.train_step)
    forward, number = endless(run, batch), model.step.value
    yield compare(
        f"{name}: training step",
        step,
        "three passes forward",
        lambda: passes(number, next(forward)),
        work=(1, 1 / 3),
        unit="steps",
        note=f"{size(batch)} pictures a step, {run.policy}",
    )
    if run.policy != "float32":
        keras.config.set_dtype_policy("float32")
        plain = trainer(run, *build(run))
        keras.config.set_dtype_policy(run.policy)
        yield compare(f"{name}: training step, {run.policy}", step, "the same in float32", plain)


def beside_plainer(run):
    """Compare a step with that of a plainer design, by pictures a second."""
    from tests.benchmarks import tutorials

    grey = draw(run, 512, 28, 28, 1)
    yield versus(
        *("04 GAN: training step", trained(run, gan)),
        *("TensorFlow's DCGAN tutorial", (tutorials.dcgan(grey)[0], tutorials.GAN_BATCH)),
        bound=3,
    )
    yield versus(
        *("05 VAE: training step", trained(run, vae)),
        *("TensorFlow's CVAE tutorial", (tutorials.cvae(grey, 16)[0], tutorials.VAE_BATCH)),
    )
    yield versus(
        *("07 inpainting: training step", trained(run, inpainting)),
        *("partial convolutions", trained(run, inpainting, rival="partial")),
    )
    yield versus(
        *("11 text to image: training step on latents", trained(run, text_to_image)),
        *("on pixels", trained(run, text_to_image, side=32, channels=3)),
    )


def versus(name, ours, baseline, theirs, **more):
    """Compare two (step, pictures that it takes)."""
    work = ours[1], theirs[1]
    return compare(name, ours[0], baseline, theirs[0], work=work, unit="images", **more)


def trained(run, build, **options):
    """Build and compile: (step, pictures that it takes)."""
    model, batch = build(run, **options)
    return trainer(run, model, batch), size(batch)


def trainer(run, model, batch):
    """A function that trains one step."""
    model.make_train_function()
    batches = endless(run, batch)
    return lambda: model.train_function(batches)


def endless(run, batch):
    """The same batch again and again, as the replicas want it."""
    import tensorflow as tf

    return iter(training.distribute(run.strategy, tf.data.Dataset.from_tensors(batch).repeat()))


def size(batch):
    """How many pictures a batch has."""
    return len(batch[0] if isinstance(batch, tuple) else batch)
