"""The networks that are taught against the designs of TensorFlow's tutorials, at equal time.

Both train in turns of a few seconds in one process, so that a busy machine slows both down. The
baselines are written from the tutorials' descriptions: the DCGAN tutorial (batches of 256, kernels
of 5, Adam 1e-4, dropout in the discriminator) and the CVAE tutorial (kernels of 3 with 32 and 64
channels, batches of 32, Adam 1e-4). On Fashion-MNIST where IMAGEGEN_DATA has it, else on digits.
"""

import itertools
import time

import numpy as np

from imagegen_tf import datasets, metrics, runtime
from tests import notebook_cells

GAN_SECONDS, VAE_SECONDS, TURN = 180, 90, 15


def in_turns(seconds, *steps):
    """Call each step function over and over for so many seconds, in turns; count the calls."""
    counts, spent = [0] * len(steps), [0.0] * len(steps)
    for step in steps:
        step()  # compiles
    while min(spent) < seconds:
        for number, step in enumerate(steps):
            start = time.perf_counter()
            while (passed := time.perf_counter() - start) < min(TURN, seconds - spent[number]):
                step()
                counts[number] += 1
            spent[number] += passed
    return counts


def tutorial_dcgan(images, keras, tf):
    """The DCGAN tutorial's training step, its generator and its size of latent."""
    layers = keras.layers
    leaky = layers.LeakyReLU
    generator = keras.Sequential(
        [
            keras.Input((100,)),
            layers.Dense(7 * 7 * 256, use_bias=False),
            layers.BatchNormalization(),
            leaky(),
            layers.Reshape((7, 7, 256)),
            layers.Conv2DTranspose(128, 5, 1, "same", use_bias=False),
            layers.BatchNormalization(),
            leaky(),
            layers.Conv2DTranspose(64, 5, 2, "same", use_bias=False),
            layers.BatchNormalization(),
            leaky(),
            layers.Conv2DTranspose(1, 5, 2, "same", use_bias=False, activation="tanh"),
        ]
    )
    discriminator = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(64, 5, 2, "same"),
            leaky(),
            layers.Dropout(0.3),
            layers.Conv2D(128, 5, 2, "same"),
            leaky(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    optimizers = [keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)]
    for optimizer, network in zip(optimizers, (generator, discriminator), strict=True):
        optimizer.build(network.trainable_variables)

    @tf.function
    def step(real):
        latents = tf.random.normal((256, 100))
        with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
            fake = generator(latents, training=True)
            on_real = discriminator(real, training=True)
            on_fake = discriminator(fake, training=True)
            g_loss = cross_entropy(tf.ones_like(on_fake), on_fake)
            d_loss = cross_entropy(tf.ones_like(on_real), on_real)
            d_loss += cross_entropy(tf.zeros_like(on_fake), on_fake)
        pairs = ((g_tape, g_loss, generator), (d_tape, d_loss, discriminator))
        for optimizer, (tape, loss, network) in zip(optimizers, pairs, strict=True):
            weights = network.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    scaled = images.astype(np.float32) / 127.5 - 1
    data = tf.data.Dataset.from_tensor_slices(scaled).shuffle(len(scaled))
    batches = iter(data.batch(256, drop_remainder=True).repeat())
    return lambda: step(next(batches)), generator


def tutorial_cvae(images, latent_size, keras, tf):
    """The CVAE tutorial's training step, and its networks."""
    layers = keras.layers
    encoder = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, 2, activation="relu"),
            layers.Conv2D(64, 3, 2, activation="relu"),
            layers.Flatten(),
            layers.Dense(2 * latent_size),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((latent_size,)),
            layers.Dense(7 * 7 * 32, activation="relu"),
            layers.Reshape((7, 7, 32)),
            layers.Conv2DTranspose(64, 3, 2, "same", activation="relu"),
            layers.Conv2DTranspose(32, 3, 2, "same", activation="relu"),
            layers.Conv2DTranspose(1, 3, 1, "same"),
        ]
    )
    optimizer = keras.optimizers.Adam(1e-4)
    variables = encoder.trainable_variables + decoder.trainable_variables
    optimizer.build(variables)

    @tf.function
    def step(batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(negative_elbo(encoder, decoder, batch, tf)[0])
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    binary = (images > 127).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices(binary).shuffle(len(binary))
    batches = iter(data.batch(32, drop_remainder=True).repeat())
    return lambda: step(next(batches)), encoder, decoder


def negative_elbo(encoder, decoder, binary, tf):
    """Give each picture's negative ELBO in nats, with the KL divergence in closed form."""
    mean, logvar = tf.split(encoder(binary), 2, axis=1)
    latents = mean + tf.exp(logvar / 2) * tf.random.normal(tf.shape(mean))
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=binary, logits=decoder(latents))
    kl = tf.reduce_sum(tf.square(mean) + tf.exp(logvar) - logvar - 1, axis=1) / 2
    return tf.reduce_sum(losses, axis=(1, 2, 3)) + kl, mean


def row(name, baseline, ratio, bound, *, lower=False, note=""):
    """One line of the table."""
    met = bound is None or (ratio <= bound if lower else ratio >= bound)
    values = {"name": name, "baseline": baseline, "ratio": round(float(ratio), 4)}
    return values | {"bound": bound, "met": bool(met), "note": note}


def measure():
    """Run all benchmarks of training."""
    run = runtime.setup()
    import keras
    import tensorflow as tf

    own = runtime.data_folder()
    name = "fashion_mnist" if own and (own / "fashion_mnist").is_dir() else "digits"
    data, test = datasets.load(name), datasets.load(name, "test")
    yield from gan_rows(run, name, data, test, keras, tf)
    for latent_size in (2, 16):
        yield from vae_rows(run, name, data, test, latent_size, keras, tf)


def gan_rows(run, name, data, test, keras, tf):
    """Images per second, Fréchet distance at equal time, and the input pipeline alone."""
    chapter = notebook_cells.load("04")
    gan = chapter.build_gan(run.strategy, 64, 28, 1)
    gan.make_train_function()
    batches = iter(datasets.batches(data, 64))
    train, theirs = gan.train_function, tutorial_dcgan(data.images, keras, tf)
    counts = in_turns(GAN_SECONDS, lambda: train(batches), theirs[0])
    rates = [count * size / GAN_SECONDS for count, size in zip(counts, (64, 256), strict=True)]
    yield row(
        f"DCGAN, {name}: images/s of a training step",
        "TensorFlow's DCGAN tutorial",
        rates[0] / rates[1],
        3,
        note=f"{rates[0]:.0f} and {rates[1]:.0f} images/s, {run.policy}",
    )
    features = metrics.features(data)
    real = features(test.images)
    distances = []
    for network, size in ((gan.averages["generator"], 64), (theirs[1], 100)):
        latents = np.random.default_rng(0).standard_normal((10_000, size)).astype(np.float32)
        made = network.predict(latents, batch_size=500, verbose=0) / 2 + 0.5
        distances.append(metrics.frechet_distance(real, features(np.clip(made, 0, 1))))
    yield row(
        f"DCGAN, {name}: Fréchet distance after {GAN_SECONDS} s",
        "TensorFlow's DCGAN tutorial",
        distances[0] / distances[1],
        0.1,
        lower=True,
        note=f"{distances[0]:.2f} and {distances[1]:.2f}, 10,000 samples, features_{name}",
    )
    start = time.perf_counter()
    for _ in itertools.islice(datasets.batches(data, 64), 5_000):
        pass
    alone = 5_000 * 64 / (time.perf_counter() - start)
    yield row(
        "input pipeline alone: images/s",
        "the DCGAN's training step",
        alone / rates[0],
        20,
        note=f"{alone:,.0f} images/s",
    )


def vae_rows(run, name, data, test, latent_size, keras, tf):
    """Negative ELBO and PSNR at equal time."""
    chapter, batch = notebook_cells.load("05"), 128
    batches = iter(datasets.batches(data, batch))
    trial = chapter.build_vae(run.strategy, 28, 1, latent_size, steps=1_000)
    trial.make_train_function()
    (tried,) = in_turns(5, lambda: trial.train_function(batches))
    # The rate decays over the training's length, so that length must be known: it is estimated.
    steps = tried * VAE_SECONDS // 5
    vae = chapter.build_vae(run.strategy, 28, 1, latent_size, steps=steps)
    vae.make_train_function()
    train = vae.train_function
    theirs, *pair = tutorial_cvae(data.images, latent_size, keras, tf)
    counts = in_turns(VAE_SECONDS, lambda: train(batches), theirs)
    binary = (test.images > 127).astype(np.float32)
    bounds, decibels = [], []
    for encoder, decoder in ((vae.encoder, vae.decoder), pair):
        parts = [negative_elbo(encoder, decoder, one, tf) for one in np.split(binary, 20)]
        bounds.append(np.mean([part[0] for part in parts]))
        made = np.concatenate([tf.sigmoid(decoder(part[1])) for part in parts])
        decibels.append(-10 * np.log10(np.mean((made - binary) ** 2)))
    rates = [count * size / VAE_SECONDS for count, size in zip(counts, (batch, 32), strict=True)]
    yield row(
        f"VAE, {name}, {latent_size} latents: -ELBO after {VAE_SECONDS} s",
        "TensorFlow's CVAE tutorial",
        bounds[0] / bounds[1],
        1,
        lower=True,
        note=f"{bounds[0]:.1f} and {bounds[1]:.1f} nats; {rates[0]:.0f} and {rates[1]:.0f} img/s",
    )
    flat = (data.images[:20_000] > 127).reshape(20_000, -1).astype(np.float32)
    mean = flat.mean(axis=0)
    directions = np.linalg.eigh(np.cov(flat.T))[1][:, -latent_size:]
    centred = binary.reshape(len(binary), -1) - mean
    error = np.mean((centred - centred @ directions @ directions.T) ** 2)
    yield row(
        f"VAE, {name}, {latent_size} latents: error of reconstruction",
        "PCA with as many components",
        10 ** (-decibels[0] / 10) / error,
        1,
        lower=True,
        note=f"PSNR {decibels[0]:.2f} and {-10 * np.log10(error):.2f} dB (CVAE {decibels[1]:.2f})",
    )
