"""The input pipeline alone: how many pictures a second reach a training step that takes no time."""

from imagegen_tf import datasets, runtime
from tests.benchmarks import steps
from tests.benchmarks.timing import compare

BATCH, FETCHED = 64, 200  # pictures in a batch; batches in a call, far more than wait ready


def measure():
    """Compare it with the usual one, and with the step that it feeds."""
    run = runtime.setup()
    data = datasets.load("digits")
    ours, plain = (fetching(make(data)) for make in (course, usual))
    yield compare(
        *("input pipeline", ours, "one picture at a time: shuffle, map, batch", plain),
        unit="images",
        work=(BATCH * FETCHED, BATCH * FETCHED),
    )
    step, count = steps.trained(run, steps.gan)
    yield compare(
        *("input pipeline", ours, "chapter 04's training step", step),
        unit="images",
        work=(BATCH * FETCHED, count),
        bound=20,
    )


def fetching(batches):
    """A function that takes many batches."""
    batches = iter(batches)

    def fetch():
        for _ in range(FETCHED):
            next(batches)

    return fetch


def course(data):
    """The course's: whole batches, gathered in memory."""
    return datasets.batches(data, BATCH)


def usual(data):
    """As tutorials have it: each picture on its own way."""
    import tensorflow as tf

    apart = tf.data.Dataset.from_tensor_slices(data.images)
    apart = apart.shuffle(len(data.images)).repeat()
    floats = apart.map(lambda one: tf.cast(one, tf.float32) / 127.5 - 1)
    return floats.batch(BATCH, drop_remainder=True).prefetch(4)
