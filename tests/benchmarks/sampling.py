"""Drawing pictures with the shipped networks: how many a second, each beside another way.

The networks are of different sizes and draw different pictures, so a ratio says what a picture
costs, not which is better.
"""

import numpy as np

from imagegen_tf import runtime, training, weights
from tests import notebook_cells
from tests.benchmarks.steps import words
from tests.benchmarks.timing import compare

COUNT, BATCH = 2_000, 500  # pictures of the fast ones
FLOW, SCENES = 100, 25  # of the slow ones


def measure():
    """Let each draw."""
    runtime.setup()
    flows, drawings = notebook_cells.load("10"), notebook_cells.load("11")
    generator, velocity = (
        weights.load("04_dcgan/generator"),
        weights.load("10_flow_matching/velocity"),
    )
    decoder, vocabulary = weights.load("05_vae/decoder"), words()
    networks = [weights.load(f"11_text_to_image/{name}") for name in ("velocity", "decoder")]
    latents = np.random.default_rng(0).standard_normal((COUNT, 64)).astype(np.float32)
    prompts = vocabulary.encode(["a large red star"] * SCENES)
    labels = np.arange(FLOW) % 10

    def gan():
        return training.predict(generator, latents, BATCH)

    def vae():
        return training.predict(decoder, latents[:, :16], BATCH)

    def flow(steps=10):
        return flows.sample(velocity, labels, steps=steps)

    def text_to_image():
        return drawings.draw(*networks, prompts)

    def loop():
        starts = range(0, COUNT, BATCH)
        return np.concatenate([generator(latents[one : one + BATCH]) for one in starts])

    def keras_predict():
        return generator.predict(latents, batch_size=BATCH, verbose=0)

    both = {"unit": "images", "work": (COUNT, COUNT)}
    yield compare("training.predict, 04's GAN", gan, "plain loop over the network", loop, **both)
    yield compare("training.predict, 04's GAN", gan, "Keras' own predict", keras_predict, **both)
    yield compare("05's VAE, one pass", vae, "04's GAN, one pass", gan, **both)
    yield compare(
        *("10's flow, 10 steps", flow, "04's GAN, one pass", gan),
        unit="images",
        work=(FLOW, COUNT),
    )
    yield compare(
        *("10's flow, 10 steps", flow, "the same, 50 steps", lambda: flow(50)),
        unit="images",
        work=(FLOW, FLOW),
    )
    yield compare(
        *("11's text to image, 16 steps, guided", text_to_image, "10's flow, 10 steps", flow),
        unit="images",
        work=(SCENES, FLOW),
    )
