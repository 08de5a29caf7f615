"""The networks of chapters 04 and 05 against the designs of TensorFlow's tutorials, at equal time.

Both train in turns of a few seconds in one process, so that a busy machine slows both down. On
Fashion-MNIST where IMAGEGEN_DATA has it, else on digits.
"""

import numpy as np

from imagegen_tf import datasets, metrics, runtime, training
from tests import notebook_cells
from tests.benchmarks.timing import in_turns, row

GAN_SECONDS, VAE_SECONDS = 180, 90


def measure():
    """Train all at equal time."""
    run = runtime.setup()
    own = runtime.data_folder()
    name = "fashion_mnist" if own and (own / "fashion_mnist").is_dir() else "digits"
    data, test = datasets.load(name), datasets.load(name, "test")
    yield gan_row(run, data, test)
    for latent_size in (2, 16):
        yield from vae_rows(run, data, test, latent_size)


def gan_row(run, data, test):
    """Fréchet distance at equal time."""
    from tests.benchmarks import tutorials

    gan = notebook_cells.load("04").build_gan(run.strategy, 64, 28, 1)
    gan.make_train_function()
    batches = iter(datasets.batches(data, 64))
    step, generator = tutorials.dcgan(data.images)
    counts = in_turns(GAN_SECONDS, lambda: gan.train_function(batches), step)
    features = metrics.features(data)
    real = features(test.images)
    distances = []
    for network, size in ((gan.averages["generator"], 64), (generator, 100)):
        latents = np.random.default_rng(0).standard_normal((10_000, size)).astype(np.float32)
        made = training.predict(network, latents) / 2 + 0.5
        distances.append(metrics.frechet_distance(real, features(np.clip(made, 0, 1))))
    rates = rate(counts, (64, tutorials.GAN_BATCH), GAN_SECONDS)
    return row(
        f"DCGAN, {data.name}: Fréchet distance after {GAN_SECONDS} s",
        "TensorFlow's DCGAN tutorial",
        distances[0] / distances[1],
        bound=0.1,
        better="lower",
        note=f"{distances[0]:.2f} and {distances[1]:.2f}, 10,000 samples, {rates}",
    )


def vae_rows(run, data, test, latent_size):
    """Negative ELBO and PSNR at equal time."""
    import tensorflow as tf

    from tests.benchmarks import tutorials

    chapter, batch = notebook_cells.load("05"), 128
    batches = iter(datasets.batches(data, batch))
    trial = chapter.build_vae(run.strategy, 28, 1, latent_size, steps=1_000)
    trial.make_train_function()
    (tried,) = in_turns(5, lambda: trial.train_function(batches))
    # The rate decays over the training's length, so that length must be known: it is estimated.
    steps = tried * VAE_SECONDS // 5
    vae = chapter.build_vae(run.strategy, 28, 1, latent_size, steps=steps)
    vae.make_train_function()
    theirs, *pair = tutorials.cvae(data.images, latent_size)
    counts = in_turns(VAE_SECONDS, lambda: vae.train_function(batches), theirs)
    binary = (test.images > 127).astype(np.float32)
    bounds, decibels = [], []
    for encoder, decoder in ((vae.encoder, vae.decoder), pair):
        parts = [tutorials.negative_elbo(encoder, decoder, one) for one in np.split(binary, 20)]
        bounds.append(np.mean([part[0] for part in parts]))
        made = np.concatenate([tf.sigmoid(decoder(part[1])) for part in parts])
        decibels.append(-10 * np.log10(np.mean((made - binary) ** 2)))
    rates = rate(counts, (batch, tutorials.VAE_BATCH), VAE_SECONDS)
    name = f"VAE, {data.name}, {latent_size} latents"
    yield row(
        f"{name}: -ELBO after {VAE_SECONDS} s",
        "TensorFlow's CVAE tutorial",
        bounds[0] / bounds[1],
        bound=1,
        better="lower",
        note=f"{bounds[0]:.1f} and {bounds[1]:.1f} nats, {rates}",
    )
    error = principal_components_error(data.images, binary, latent_size)
    yield row(
        f"{name}: error of reconstruction",
        "PCA with as many components",
        10 ** (-decibels[0] / 10) / error,
        bound=1,
        better="lower",
        note=f"PSNR {decibels[0]:.2f} and {-10 * np.log10(error):.2f} dB (CVAE {decibels[1]:.2f})",
    )


def principal_components_error(images, binary, count):
    """Mean squared error of the test pictures, rebuilt from the training pictures' components."""
    flat = (images[:20_000] > 127).reshape(20_000, -1).astype(np.float32)
    directions = np.linalg.eigh(np.cov(flat.T))[1][:, -count:]
    centred = binary.reshape(len(binary), -1) - flat.mean(axis=0)
    return np.mean((centred - centred @ directions @ directions.T) ** 2)


def rate(counts, batches, seconds):
    """Write how many pictures a second both trained on."""
    rates = [count * size / seconds for count, size in zip(counts, batches, strict=True)]
    return " and ".join(f"{one:,.0f}" for one in rates) + " images/s"
