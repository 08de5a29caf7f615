"""The networks and the training steps of TensorFlow's tutorials, as baselines.

Written from the tutorials' descriptions: the DCGAN tutorial (batches of 256, kernels of 5, Adam
1e-4, dropout in the discriminator) and the CVAE tutorial (kernels of 3 with 32 and 64 channels,
batches of 32, Adam 1e-4). They compute in float32, as the tutorials do, on a machine where the
course computes in bfloat16.
"""

import functools

import keras
import numpy as np
import tensorflow as tf
from keras import layers

GAN_BATCH, VAE_BATCH = 256, 32


def as_published(build):
    """Let networks be built in float32, whatever the policy."""

    @functools.wraps(build)
    def plain(*arguments):
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        try:
            return build(*arguments)
        finally:
            keras.config.set_dtype_policy(policy)

    return plain


@as_published
def dcgan(images):
    """The DCGAN tutorial's training step, its generator and its size of latent."""
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
        latents = tf.random.normal((GAN_BATCH, 100))
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
    batches = iter(data.batch(GAN_BATCH, drop_remainder=True).repeat())
    return lambda: step(next(batches)), generator


@as_published
def cvae(images, latent_size):
    """The CVAE tutorial's training step, and its networks."""
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
            loss = tf.reduce_mean(negative_elbo(encoder, decoder, batch)[0])
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    binary = (images > 127).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices(binary).shuffle(len(binary))
    batches = iter(data.batch(VAE_BATCH, drop_remainder=True).repeat())
    return lambda: step(next(batches)), encoder, decoder


def negative_elbo(encoder, decoder, binary):
    """Give each picture's negative ELBO in nats, with the KL divergence in closed form."""
    mean, logvar = tf.split(encoder(binary), 2, axis=1)
    latents = mean + tf.exp(logvar / 2) * tf.random.normal(tf.shape(mean))
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=binary, logits=decoder(latents))
    kl = tf.reduce_sum(tf.square(mean) + tf.exp(logvar) - logvar - 1, axis=1) / 2
    return tf.reduce_sum(losses, axis=(1, 2, 3)) + kl, mean
