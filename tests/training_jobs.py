"""What the tests of training do in processes of their own, and the models that they train.

As a script: python training_jobs.py JOB OUTPUT [ARGUMENTS], under the settings of its environment.
One model is a GAN so small that it trains in a second; those of the chapters come from their
notebooks.
"""

import json
import sys
import time

import keras
import notebook_cells
import numpy as np
import tensorflow as tf
from keras import layers

from imagegen_tf import datasets, runtime, training
from imagegen_tf.datasets import glyphs

LATENT, BATCH = 10, 64
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


def pictures(count=640):
    """A data set of drawn digits."""
    images, labels = glyphs.draw("0123", count, rng=0)
    return datasets.Dataset("digits", "train", images, labels)


def batches(seed=1):
    """An endless data set of 640 small pictures."""
    return datasets.batches(pictures(), BATCH, seed=seed)


class SmallGAN(training.DistributedModel):
    """A GAN of two small networks; `spoil(model, loss)` may change the generator's loss."""

    def __init__(self, generator, discriminator, seed=3, spoil=None):
        super().__init__(seed=seed)
        self.generator, self.discriminator, self._spoil = generator, discriminator, spoil

    def train_step(self, batch):
        real = tf.cast(batch, tf.float32) / 127.5 - 1
        latents = self.normal((tf.shape(real)[0], LATENT))
        with tf.GradientTape(persistent=True) as tape:
            fake = self.generator(latents, training=True)
            on_real = self.discriminator(real, training=True)
            on_fake = self.discriminator(fake, training=True)
            d_loss = tf.reduce_mean(tf.nn.softplus(-on_real) + tf.nn.softplus(on_fake))
            g_loss = tf.reduce_mean(tf.nn.softplus(-on_fake))
            if self._spoil is not None:
                g_loss = self._spoil(self, g_loss)
        self.minimize(tape, d_loss, self.discriminator)
        self.minimize(tape, g_loss, self.generator)
        return {"discriminator": d_loss, "generator": g_loss}

    def test_step(self, batch):
        latents = self.normal((tf.shape(batch)[0], LATENT))
        return {"brightness": tf.reduce_mean(self.generator(latents, training=False))}


def build(strategy, *, seed=3, rate=0.01, adam=False, average=None, spoil=None, synchronized=True):
    """Build the small GAN; without normalisation if synchronized is None."""

    def normalized(x):
        if synchronized is not None:
            x = layers.BatchNormalization(synchronized=synchronized)(x)
        return layers.ReLU()(x)

    with strategy.scope():
        keras.utils.set_random_seed(seed)
        latents = keras.Input((LATENT,))
        x = layers.Reshape((7, 7, 8))(layers.Dense(7 * 7 * 8, use_bias=False)(latents))
        x = normalized(layers.Conv2DTranspose(8, 4, 2, "same", use_bias=False)(normalized(x)))
        x = layers.Conv2DTranspose(1, 4, 2, "same", activation="tanh", dtype="float32")(x)
        generator = keras.Model(latents, x, name="generator")
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
        model = SmallGAN(generator, discriminator, seed, spoil)
        optimizer = keras.optimizers.Adam if adam else keras.optimizers.SGD
        optimizers = {name: optimizer(rate) for name in ("generator", "discriminator")}
        model.compile(optimizers, average=average)
    return model


def chapters_model(chapter, strategy):
    """The model that a chapter teaches, on grey pictures of 28 x 28; the GAN is narrower."""
    cells = notebook_cells.load(chapter)
    if chapter == "04":
        return cells.build_gan(strategy, 64, 28, 1, width=16, seed=3)
    return cells.build_vae(strategy, 28, 1, 16, steps=200, seed=3)


def values(model):
    """All variables of a model as arrays."""
    return {f"{i:03}": variable.numpy() for i, variable in enumerate(model.state())}


def job_same(run, output, *words):
    """Do all that must not depend on how many replicas there are, nor on where they are.

    "permuted" as a further argument: each batch comes in another order, and its noise with it.
    That is the same mathematics, rounded otherwise.
    """
    seeds = 10 if run.num_replicas == 1 or "TF_CONFIG" not in runtime.os.environ else 2
    equality(run, output, seeds, "permuted" in words)
    if "permuted" in words:
        return
    model = build(run.strategy)
    share = run.strategy.run(tf.function(lambda: model.normal((BATCH // run.num_replicas, 7))))
    np.savez(f"{output}-noise.npz", *run.strategy.experimental_local_results(share))
    for policy in POLICIES:
        keras.config.set_dtype_policy(policy)
        model = build(run.strategy, average={"generator": 0.9})
        history = training.fit(model, batches(), 20, f"{output}-run")
        np.savez(f"{output}-{policy}.npz", **values(model))
        with open(f"{output}-{policy}.json", "w") as file:
            json.dump(history.losses, file)


def equality(run, output, seeds, is_permuted):
    """Train models from the weights of several seeds, by one step and by twenty; keep the changes.

    A step of SGD moves a weight by its gradient times the rate.
    """
    models = {"small": build(run.strategy)}
    models |= {chapter: chapters_model(chapter, run.strategy) for chapter in ("04", "05")}
    data, kept = batches(), {}
    if is_permuted:
        order = np.random.default_rng(0).permutation(BATCH)
        data = data.map(lambda batch: tf.gather(batch, order))
        for model in models.values():
            model.normal = lambda shape, draw=model.normal: tf.gather(draw(shape), order)
    for name, model in models.items():
        with run.strategy.scope():
            model.compile({key: keras.optimizers.SGD() for key in model.optimizers})
        start = [variable.numpy() for variable in model.state()]
        # The VAE's loss is a sum over 784 pixels, the GAN's a single number.
        many = (20, 1e-5 if name == "05" else 1e-2)
        for seed in range(seeds):
            for steps, rate in ((1, 1e3), many) if seed < 4 else ((1, 1e3),):
                begin_anew(model, start, seed, rate)
                before = [variable.numpy() for variable in model.trainable_variables]
                training.fit(model, data, steps, f"{output}-run")
                for number, old in enumerate(before):
                    change = model.trainable_variables[number].numpy() - old
                    kept[f"{name}/{steps}/{seed}/{number:03}"] = change
    np.savez(f"{output}-changes.npz", **kept)


def begin_anew(model, start, seed, rate):
    """Take a model back to its start, with kernels drawn by a seed and another rate."""
    rng = np.random.default_rng(seed)
    for variable, value in zip(model.state(), start, strict=True):
        variable.assign(value)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            spread = np.prod(variable.shape[:-1]) ** -0.5
            variable.assign(rng.normal(0, spread, variable.shape).astype(np.float32))
    for optimizer in model.optimizers.values():
        optimizer.learning_rate = rate


def on_replica_1(value):
    """The value on replica 1, 0 on the others."""
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.where(tf.equal(replica, 1), value, 0.0)


def job_overflow(run, output):
    """With float16, plant an infinity into the generator's gradients of replica 1 in step 2.

    Without batch normalisation, which would hand it on to replica 0 by itself.
    """
    keras.config.set_dtype_policy("mixed_float16")

    def spoil(model, loss):
        planted = on_replica_1(tf.where(tf.equal(model.step.value, 2), float("inf"), 0.0))

        @tf.custom_gradient
        def plant(value):
            return value, lambda upstream: upstream + planted

        return plant(loss)

    model = build(run.strategy, spoil=spoil, average={"generator": 0.9}, synchronized=None)
    scales = []
    for name, steps in (("before", 2), ("planted", 1), ("after", 1)):
        training.fit(model, batches(), steps, f"{output}-run")
        scales.append([float(o.dynamic_scale.numpy()) for o in model.optimizers.values()])
        np.savez(f"{output}-{name}.npz", *[v.numpy() for v in model.generator.variables])
    np.savez(f"{output}-state.npz", **values(model))
    with open(f"{output}.json", "w") as file:
        json.dump(scales, file)


def job_keras_overflow(run, output):
    """Let Keras' own LossScaleOptimizer meet an infinity on replica 1; tell what it wrote."""
    with run.strategy.scope():
        weight = keras.Variable(1.0)
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
        optimizer.build([weight])
    step = tf.function(lambda: optimizer.apply([on_replica_1(float("inf"))], [weight]))
    run.strategy.run(step)
    print(weight.numpy())


def job_keras_fit(run, output):
    """Let Keras' own fit train a model with a train_step of its own; tell what it says."""

    class Plain(keras.Model):
        def train_step(self, batch):
            return {"loss": tf.reduce_mean(batch)}

    with run.strategy.scope():
        model = Plain()
        model.compile()
    model.built = True
    try:
        model.fit(batches().map(lambda batch: batch / 255), steps_per_epoch=1, verbose=0)
        print("Keras' fit works")
    except Exception as error:
        print(type(error).__name__, error)


def job_outside(run, output):
    """Build networks and optimizers in and outside of the scope; tell what compile says."""
    plain, mirrored = build(tf.distribute.get_strategy()), build(run.strategy)
    outside = keras.optimizers.SGD()
    with run.strategy.scope():
        inside = keras.optimizers.Adam()
        mixed = SmallGAN(plain.generator, plain.discriminator)
        for model, optimizer in ((mixed, inside), (mirrored, outside), (mirrored, inside)):
            try:
                model.compile({"generator": optimizer}, average={"generator": 0.9})
                print("compiled")
            except RuntimeError as error:
                print(error)
    build(run.strategy, synchronized=False)


def job_train(run, output, steps, chapter=None):
    """Train with frequent checkpoints, saying each step; keep the weights."""

    class Say(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            time.sleep(0.02)
            with open(f"{output}-steps-{runtime.worker()[0]}", "a") as file:
                file.write(".")

    if chapter:
        model = chapters_model(chapter, run.strategy)
    else:
        model = build(run.strategy, adam=True, rate=1e-3, average={"generator": 0.9})
    settings = {"samples": lambda: np.zeros((2, 8, 8, 1)), "save_every": 0.1, "callbacks": [Say()]}
    training.fit(model, batches(), int(steps), f"{output}-run", **settings)
    np.savez(f"{output}.npz", **values(model))


if __name__ == "__main__":
    job, output, *words = sys.argv[1:]
    globals()[f"job_{job}"](runtime.setup(precision="float32"), output, *words)
