"""What test_training does in processes of their own, and the models that it trains.

As a script: python training_jobs.py JOB OUTPUT [ARGUMENTS], under the settings of its environment.
One model is a GAN so small that it trains in a second; those of the chapters come from their
notebooks.
"""

import json
import sys
import time

import numpy as np

from imagegen_tf import datasets, runtime
from imagegen_tf.datasets import glyphs

LATENT, BATCH = 10, 64
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


def pictures(count=640):
    """A data set of drawn digits."""
    images, labels = glyphs.draw("0123", count, rng=0)
    return datasets.Dataset("digits", "train", images, labels)


def build(strategy, *, seed=3, rate=0.01, adam=False, average=None, spoil=None):
    """Build the model; `spoil(model, loss)` may change the generator's loss."""
    import keras
    import tensorflow as tf

    from imagegen_tf import training

    layers = keras.layers

    class GAN(training.DistributedModel):
        def __init__(self, generator, discriminator):
            super().__init__(seed=seed)
            self.generator, self.discriminator = generator, discriminator

        def train_step(self, batch):
            real = tf.cast(batch, tf.float32) / 127.5 - 1
            latents = self.normal((tf.shape(real)[0], LATENT))
            with tf.GradientTape(persistent=True) as tape:
                fake = self.generator(latents, training=True)
                on_real = self.discriminator(real, training=True)
                on_fake = self.discriminator(fake, training=True)
                d_loss = tf.reduce_mean(tf.nn.softplus(-on_real) + tf.nn.softplus(on_fake))
                g_loss = tf.reduce_mean(tf.nn.softplus(-on_fake))
                if spoil is not None:
                    g_loss = spoil(self, g_loss)
            self.minimize(tape, d_loss, self.discriminator)
            self.minimize(tape, g_loss, self.generator)
            return {"discriminator": d_loss, "generator": g_loss}

        def test_step(self, batch):
            latents = self.normal((tf.shape(batch)[0], LATENT))
            return {"brightness": tf.reduce_mean(self.generator(latents, training=False))}

    with strategy.scope():
        keras.utils.set_random_seed(seed)
        generator = keras.Sequential(
            [
                keras.Input((LATENT,)),
                layers.Dense(7 * 7 * 8, use_bias=False),
                layers.Reshape((7, 7, 8)),
                layers.BatchNormalization(synchronized=True),
                layers.ReLU(),
                layers.Conv2DTranspose(8, 4, 2, "same", use_bias=False),
                layers.BatchNormalization(synchronized=True),
                layers.ReLU(),
                layers.Conv2DTranspose(1, 4, 2, "same", activation="tanh", dtype="float32"),
            ],
            name="generator",
        )
        discriminator = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(8, 4, 2, "same"),
                layers.LeakyReLU(),
                layers.Conv2D(8, 4, 2, "same"),
                layers.LeakyReLU(),
                layers.Flatten(),
                layers.Dense(1, dtype="float32"),
            ],
            name="discriminator",
        )
        model = GAN(generator, discriminator)
        new = keras.optimizers.Adam if adam else keras.optimizers.SGD
        model.compile({"generator": new(rate), "discriminator": new(rate)}, average=average)
    return model


def chapters_model(chapter, strategy):
    """The model that a chapter teaches, on grey pictures of 28 x 28; the GAN is narrower."""
    import notebook_cells

    cells = notebook_cells.load(chapter)
    if chapter == "04":
        return cells.build_gan(strategy, 64, 28, 1, width=16, seed=3)
    return cells.build_vae(strategy, 28, 1, 16, steps=200, seed=3)


def values(model):
    """All variables of a model as arrays."""
    return {f"{i:03}": variable.numpy() for i, variable in enumerate(model.state())}


def job_precisions(run, output):
    """Train 20 steps in each precision; keep weights and losses."""
    import keras

    from imagegen_tf import training

    for policy in POLICIES:
        keras.config.set_dtype_policy(policy)
        model = build(run.strategy, average={"generator": 0.9})
        data = datasets.batches(pictures(), BATCH, seed=1)
        history = training.fit(model, data, 20, f"{output}-run")
        np.savez(f"{output}-{policy}.npz", **values(model))
        with open(f"{output}-{policy}.json", "w") as file:
            json.dump(history.losses, file)
    keras.config.set_dtype_policy("float32")
    for chapter in ("04", "05"):
        model = chapters_model(chapter, run.strategy)
        with run.strategy.scope():
            # The VAE's loss is a sum over 784 pixels, the GAN's a single number.
            rate = {"04": 1e-3, "05": 1e-5}[chapter]
            model.compile({name: keras.optimizers.SGD(rate) for name in model.optimizers})
        training.fit(model, datasets.batches(pictures(), BATCH, seed=1), 20, f"{output}-run")
        np.savez(f"{output}-{chapter}.npz", **values(model))


def job_overflow(run, output):
    """With float16, plant an infinity into the generator's gradients of replica 1 in step 2."""
    import keras
    import tensorflow as tf

    from imagegen_tf import training

    keras.config.set_dtype_policy("mixed_float16")

    def spoil(model, loss):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        is_here = tf.logical_and(tf.equal(replica, 1), tf.equal(model.step.value, 2))

        @tf.custom_gradient
        def plant(value):
            return value, lambda upstream: upstream + tf.where(is_here, float("inf"), 0.0)

        return plant(loss)

    model = build(run.strategy, spoil=spoil, average={"generator": 0.9})
    data = datasets.batches(pictures(), BATCH, seed=1)
    scales = []
    for name, steps in (("before", 2), ("planted", 1), ("after", 1)):
        training.fit(model, data, steps, f"{output}-run")
        scales.append([float(o.dynamic_scale.numpy()) for o in model.optimizers.values()])
        np.savez(f"{output}-{name}.npz", *[v.numpy() for v in model.generator.variables])
    np.savez(f"{output}-state.npz", **values(model))
    with open(f"{output}.json", "w") as file:
        json.dump(scales, file)


def job_noise(run, output):
    """Draw a global batch of latents on all replicas; keep each replica's share."""
    import tensorflow as tf

    model = build(run.strategy)
    count = BATCH // run.num_replicas
    shares = run.strategy.run(tf.function(lambda: model.normal((count, LATENT))))
    np.savez(f"{output}.npz", *run.strategy.experimental_local_results(shares))


def job_train(run, output, steps, chapter=None):
    """Train with frequent checkpoints, saying each step; keep the weights."""
    import keras

    from imagegen_tf import training

    class Say(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            time.sleep(0.02)
            with open(f"{output}-steps-{runtime.worker()[0]}", "a") as file:
                file.write(".")

    if chapter:
        model = chapters_model(chapter, run.strategy)
    else:
        model = build(run.strategy, adam=True, rate=1e-3, average={"generator": 0.9})
    data = datasets.batches(pictures(), BATCH, seed=1)
    samples = lambda: np.zeros((2, 8, 8, 1))  # noqa: E731
    training.fit(
        model, data, int(steps), f"{output}-run", samples=samples, save_every=0.1, callbacks=[Say()]
    )
    np.savez(f"{output}.npz", **values(model))


if __name__ == "__main__":
    job, output, *rest = sys.argv[1:]
    globals()[f"job_{job}"](runtime.setup(precision="float32"), output, *rest)
