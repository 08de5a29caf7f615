"""Typical wrong answers for each lab, three or more, and the points that each should cost.

Each is what someone writes who has understood half: the code replaces the solution of one task.
"""

DESCEND = """def descend(loss, start, steps, rate):
    picture = tf.constant(start)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(picture)
            value = loss(picture)
        picture {}= rate * tape.gradient(value, picture)
    return tf.clip_by_value(picture, 0, 1).numpy()
"""

WRONG = {
    "01_noise_images": {
        "the amplitude taken for sigma": (
            "predicted_psnr",
            "predicted_psnr = -20 * np.log10(0.06)",
            2,
        ),
        "the root of two forgotten": (
            "noise_level",
            "def noise_level(first, second):\n    return float(np.std(first - second))",
            3,
        ),
        "rows mixed as if they were columns": (
            "sample",
            "def sample(mean, covariance, count, rng):\n"
            "    latent = rng.standard_normal((count, len(mean)))\n"
            "    return mean + latent @ np.linalg.cholesky(covariance)",
            3,
        ),
        "a generator of its own": (
            "sample",
            "def sample(mean, covariance, count, rng):\n"
            "    latent = np.random.default_rng(0).standard_normal((count, len(mean)))\n"
            "    return mean + latent @ np.linalg.cholesky(covariance).T",
            3,
        ),
    },
    "02_image_editing": {
        "every edit taken to be lossless but the turn": (
            "comes_back",
            "comes_back = {'flip, flip again': 'exact', 'turn by 90, turn by -90': 'exact',"
            " 'turn by 45, turn by -45': 'changed', 'scale by 2, scale by 0.5': 'exact'}",
            2,
        ),
        "the fence's period merely divided by the step": (
            "false_period",
            "false_period = 2 * 2.4",
            2,
        ),
        "turned clockwise": (
            "turn",
            "def turn(picture, degrees):\n"
            "    return ndimage.rotate(picture, -degrees, reshape=False, order=0)",
            3,
        ),
        "the centre of an odd side": (
            "turn",
            "def turn(picture, degrees):\n"
            "    middle = len(picture) // 2\n"
            "    down, across = np.indices(picture.shape) - middle\n"
            "    angle = np.deg2rad(degrees)\n"
            "    old_across = np.cos(angle) * across - np.sin(angle) * down\n"
            "    old_down = np.sin(angle) * across + np.cos(angle) * down\n"
            "    both = (old_down, old_across)\n"
            "    rows, columns = (np.rint(x + middle).astype(int) for x in both)\n"
            "    size, result = len(picture), np.zeros_like(picture)\n"
            "    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)\n"
            "    result[inside] = picture[rows[inside], columns[inside]]\n"
            "    return result",
            3,
        ),
        "the mean of the absolute error": (
            "hole_psnr",
            "def hole_psnr(filled, original, mask):\n"
            "    error = np.abs(filled[mask].astype(np.float64) - original[mask])\n"
            "    return float(-20 * np.log10(error.mean()))",
            3,
        ),
    },
    "03_compositing": {
        "the contrast of the mixture taken for the mean": (
            "mixed_contrast",
            "mixed_contrast = 0.2",
            2,
        ),
        "the premultiplied value": (
            "one_pixel",
            "one_pixel = {'alpha': 0.7, 'value': 0.5}",
            2,
        ),
        "NaN compared as if it were a number": (
            "nearer",
            "def nearer(first, first_depth, second, second_depth):\n"
            "    return np.where((first_depth < second_depth)[:, :, None], first, second)",
            3,
        ),
    },
    "04_dcgan": {
        "the generator's loss in its first form": (
            "losses",
            "losses = {'discriminator': -np.log(0.8) - np.log(0.6), 'generator': -np.log(1 - 0.4)}",
            2,
        ),
        "every latent given the length of the first": (
            "walk",
            "def walk(start, end, count):\n"
            "    share = np.linspace(0, 1, count, dtype=np.float32)[:, None]\n"
            "    path = (1 - share) * start + share * end\n"
            "    length = np.linalg.norm(path, axis=1, keepdims=True)\n"
            "    return path * np.linalg.norm(start) / length",
            3,
        ),
        "the targets of real and fake swapped": (
            "least_squares",
            "def least_squares(on_real, on_fake):\n"
            "    loss = tf.reduce_mean(on_real**2) + tf.reduce_mean((on_fake - 1) ** 2)\n"
            "    return loss, tf.reduce_mean((on_fake - 1) ** 2)",
            3,
        ),
        "steps of its own, without the optimizer": (
            "step",
            "def step(discriminator, optimizer, real, fake):\n"
            "    with tf.GradientTape() as tape:\n"
            "        on_real, on_fake = discriminator(real), discriminator(fake)\n"
            "        loss = tf.reduce_mean(tf.nn.softplus(-on_real))\n"
            "        loss += tf.reduce_mean(tf.nn.softplus(on_fake))\n"
            "    for v, g in zip(discriminator.trainable_variables,\n"
            "                    tape.gradient(loss, discriminator.trainable_variables)):\n"
            "        v.assign_sub(0.05 * g)\n"
            "    return loss",
            3,
        ),
    },
    "05_vae": {
        "the standard deviation not squared": (
            "price",
            "price = 0.5 + (0.25 - 1 - np.log(0.25)) / 2",
            2,
        ),
        "the mean over pixels": (
            "surprise",
            "def surprise(x, probability):\n"
            "    p = np.clip(probability, 1e-6, 1 - 1e-6)\n"
            "    return -np.mean(x * np.log(p) + (1 - x) * np.log(1 - p), axis=(1, 2, 3))",
            3,
        ),
        "logvar taken for the logarithm of sigma": (
            "draw",
            "def draw(mu, logvar, noise):\n    return mu + tf.exp(logvar) * noise",
            3,
        ),
        "only the lower end clipped": (
            "surprise",
            "def surprise(x, probability):\n"
            "    p = np.maximum(probability, 1e-6)\n"
            "    return -np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), axis=(1, 2, 3))",
            3,
        ),
        "the fractions themselves": (
            "bound",
            "def bound(log_weights):\n    return np.log(np.mean(np.exp(log_weights), axis=1))",
            3,
        ),
    },
    "06_super_resolution": {
        "the whole window taken for its reach": (
            "sees",
            "sees = {'reach': 13, 'weights': 160 + 4 * 2320 + 1305}",
            2,
        ),
        "what nobody can know taken for the gain": (
            "winner",
            "winner = 'noise'",
            2,
        ),
        "the shuffle without a transpose": (
            "shuffle",
            "def shuffle(x, scale):\n    return x.reshape(x.shape[0] * scale, x.shape[1] * scale)",
            3,
        ),
        "levels not rounded": (
            "paper_psnr",
            "def paper_psnr(shown, reference, scale):\n"
            "    inner = slice(scale, -scale)\n"
            "    shown, reference = (images.luma(x, limited=True) for x in (shown, reference))\n"
            "    return metrics.psnr(shown[inner, inner], reference[inner, inner])",
            3,
        ),
        "two convolutions without an activation": (
            "build",
            "def build():\n"
            "    inputs = keras.Input((None, None, 1))\n"
            "    x = layers.Conv2D(16, 3, padding='same')(inputs)\n"
            "    x = layers.Conv2D(9, 3, padding='same', kernel_initializer='zeros')(x)\n"
            "    missing = keras.ops.depth_to_space(x, 3)\n"
            "    bicubic = own_layers.Bicubic(3)(inputs)\n"
            "    return keras.Model(inputs, layers.Add()([bicubic, missing]))",
            4,
        ),
    },
    "07_inpainting": {
        "the share taken of the error, not of its square": (
            "whole_psnr",
            "whole_psnr = -20 * np.log10(0.2 / 20)",
            2,
        ),
        "mixed, so that NaN comes through": (
            "complete",
            "def complete(image, mask, fill):\n    return (1 - mask) * image + mask * fill",
            2,
        ),
        "divided by the whole window": (
            "known_mean",
            "def known_mean(image, mask, size):\n"
            "    return ndimage.uniform_filter(image * (1 - mask), size, mode='constant')",
            3,
        ),
        "updated in place": (
            "soap_film",
            "def soap_film(image, mask, steps):\n"
            "    u = np.where(mask > 0.5, 0.0, image)\n"
            "    for _ in range(steps):\n"
            "        for y, x in np.argwhere(mask > 0.5):\n"
            "            u[y, x] = (u[y - 1, x] + u[y + 1, x] + u[y, x - 1] + u[y, x + 1]) / 4\n"
            "    return u",
            3,
        ),
    },
    "08_style_transfer": {
        "a style thought to know where things are": (
            "forgets",
            "forgets = {'all places shuffled': 'changed', 'upside down': 'same',"
            " 'every feature doubled': 'changed',"
            " 'the first feature shuffled, the others left alone': 'changed'}",
            2,
        ),
        "the sum over places": (
            "gram",
            "def gram(maps):\n"
            "    flat = tf.reshape(maps, (maps.shape[0], -1, maps.shape[3]))\n"
            "    return tf.matmul(flat, flat, transpose_a=True)",
            3,
        ),
        "uphill": ("descend", DESCEND.format("+"), 4),
        "clipped at the end only": ("descend", DESCEND.format("-"), 4),
    },
    "09_captioning": {
        "the end forgotten": (
            "ignorant",
            "ignorant = 11 * np.log(52)",
            2,
        ),
        "the root forgotten": (
            "attend",
            "def attend(queries, keys, values):\n"
            "    scores = queries @ keys.T\n"
            "    shares = np.exp(scores - scores.max(axis=1, keepdims=True))\n"
            "    shares = shares / shares.sum(axis=1, keepdims=True)\n"
            "    return shares @ values, shares",
            3,
        ),
        "words counted as often as they are said": (
            "word_share",
            "def word_share(said, captions):\n"
            "    words, known = said.split(), ' '.join(captions).split()\n"
            "    return sum(word in known for word in words) / max(1, len(words))",
            3,
        ),
        "the largest not taken off": (
            "attend",
            "def attend(queries, keys, values):\n"
            "    shares = np.exp(queries @ keys.T / np.sqrt(queries.shape[1]))\n"
            "    shares = shares / shares.sum(axis=1, keepdims=True)\n"
            "    return shares @ values, shares",
            3,
        ),
    },
    "10_flow_matching": {
        "each step of guidance counted once": (
            "asked",
            "asked = {'Euler': 10, 'Heun': 19, 'Heun with guidance': 20}",
            2,
        ),
        "the likelier of the two data": (
            "end",
            "end = (0.7 + 2) / 2",
            2,
        ),
        "guidance from the velocity with class": (
            "guided",
            "def guided(x, t, label, weight):\n"
            "    when = tf.fill((len(x), 1), tf.cast(t, tf.float32))\n"
            "    free = network(x, when, tf.fill((len(x), 1), 10))\n"
            "    found = network(x, when, tf.constant(label))\n"
            "    return found + weight * (found - free)",
            3,
        ),
        "Heun for the midpoint": (
            "solve",
            "def solve(field, x, times):\n"
            "    for start, stop in zip(times[:-1], times[1:], strict=True):\n"
            "        slope = field(x, start)\n"
            "        slope = (slope + field(x + (stop - start) * slope, stop)) / 2\n"
            "        x = x + (stop - start) * slope\n"
            "    return x",
            3,
        ),
    },
    "11_text_to_image": {
        "order taken to matter to a bag": (
            "bags",
            "bags = {\n"
            "    ('a red star above a blue ring', 'a blue star above a red ring'): 'different',\n"
            "    ('a red star above a blue ring', 'a blue ring above a red star'): 'same',\n"
            "    ('a red star above a blue ring', 'a red star below a blue ring'): 'different',\n"
            "    ('a red star', 'a small red star'): 'different',\n"
            "}",
            2,
        ),
        "forgotten rows without start and end": (
            "forget",
            "def forget(rows, coins, share):\n"
            "    return np.where((coins < share)[:, None], text.PADDING, rows)",
            3,
        ),
        "without guidance": (
            "paint",
            "def paint(prompts, noise, times, guidance):\n"
            "    x, rows = tf.constant(noise), tf.constant(vocabulary.encode(prompts))\n"
            "    for start, stop in zip(times[:-1], times[1:]):\n"
            "        t = tf.fill((len(prompts), 1), tf.cast(start, tf.float32))\n"
            "        x = x + float(stop - start) * network(x, t, rows)\n"
            "    return np.clip(np.asarray(decoder(x)) / 2 + 0.5, 0, 1)",
            4,
        ),
    },
}
