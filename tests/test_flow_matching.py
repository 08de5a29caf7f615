"""Chapter 10: the loss, the solvers, DDIM as Euler, requests that are refused, replicas."""

import itertools
from pathlib import Path

import fresh
import keras
import notebook_cells
import numpy as np
import pytest
import replicas
import tensorflow as tf

from imagegen_tf import datasets, training, weights

CLASSES = 3


@pytest.fixture(scope="module")
def chapter():
    """The cells that are taught."""
    return notebook_cells.load("10")


@pytest.fixture(scope="module")
def network(chapter):
    """A small network for 8 x 8 pictures, with weights that let time and class matter."""
    keras.utils.set_random_seed(0)
    built = chapter.build_velocity(8, 1, CLASSES, width=8, depth=1)
    rng = np.random.default_rng(0)
    built.set_weights([one + 0.1 * rng.standard_normal(one.shape) for one in built.get_weights()])
    return built


def noise(*shape, seed=0):
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def last(path):
    """The end of a path."""
    *_, end = path
    return end


# The loss


@pytest.mark.parametrize("shape", [(6, 2), (6, 4, 4, 1)])
def test_the_loss_of_the_true_velocity_is_zero(chapter, shape):
    image, start, t = noise(*shape), noise(*shape, seed=1), np.linspace(0, 1, 6)[:, None]
    seen = []

    def right(inputs, training):
        seen.append(inputs[0])
        return image - start

    loss = chapter.velocity_loss(right, tf.constant(image), start, t.astype(np.float32))
    assert float(loss) == 0
    assert np.allclose(seen[0][0], start[0]) and np.allclose(seen[0][-1], image[-1], atol=1e-6)


def test_the_loss_of_standing_still_is_the_mean_square_of_the_way(chapter):
    image, start = noise(500, 2), noise(500, 2, seed=1)
    still = lambda inputs, training: tf.zeros_like(inputs[0])  # noqa: E731
    loss = chapter.velocity_loss(still, tf.constant(image), start, tf.fill((500, 1), 0.3))
    assert float(loss) == pytest.approx(np.mean((image - start) ** 2), rel=1e-5)


def test_times_lie_inside(chapter):
    t = chapter.draw_times(tf.constant(noise(10_000))).numpy()
    assert t.min() > 0 and t.max() <= 1 - chapter.CLOSEST
    assert 0.35 < np.median(t) < 0.45  # the sigmoid of -0.4 is 0.401


# Solvers


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_solvers_have_their_order(chapter, solver, order):
    # dx/dt = x over [0, 0.9] leads from 1 to e^0.9. With half the step, a method of order p is
    # 2^p times as near.
    errors = []
    for steps in (40, 80):
        end = last(getattr(chapter, solver)(lambda x, t: x, 1.0, np.linspace(0, 0.9, steps + 1)))
        errors.append(abs(end - np.exp(0.9)))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_solvers_hand_out_every_place_and_never_ask_at_the_end(chapter):
    for solver, evaluations in ((chapter.euler, 4), (chapter.heun, 7)):
        asked = []
        field = lambda x, t, asked=asked: asked.append(t) or 1.0  # noqa: E731
        assert np.allclose(list(solver(field, 0.0, np.linspace(0, 1, 5))), np.linspace(0, 1, 5))
        assert len(asked) == evaluations and max(asked) < 1


def test_a_perfect_field_leads_to_the_picture(chapter):
    # All training pictures are one: the velocity is (picture - x) / (1 - t), and paths are lines.
    picture, start = noise(4, 4, seed=5), noise(4, 4, seed=6)
    field = lambda x, t: (picture - x) / (1 - t)  # noqa: E731
    for solver, steps in itertools.product((chapter.euler, chapter.heun), (1, 7)):
        assert np.allclose(last(solver(field, start, np.linspace(0, 1, steps + 1))), picture)


# Diffusion


def test_ddim_is_euler(chapter, network):
    field, start = chapter.make_field(network, [0, 1, 2, 3]), noise(4, 8, 8, 1)
    times = np.linspace(0, 1, 9)
    straight = last(chapter.euler(field, start, times.astype(np.float32)))
    turned = chapter.diffusion(field, start, chapter.to_alpha_bar(times))
    assert np.abs(straight - start).max() > 0.1  # it went somewhere
    assert np.allclose(straight, turned, atol=1e-4)


def test_time_and_alpha_bar_are_inverse_and_keep_the_ratio(chapter):
    alpha_bar = np.linspace(0, 1, 11)
    t = chapter.to_time(alpha_bar)
    assert np.allclose(chapter.to_alpha_bar(t), alpha_bar)
    inner = slice(1, -1)
    ratio = np.sqrt(alpha_bar[inner] / (1 - alpha_bar[inner]))
    assert np.allclose(t[inner] / (1 - t[inner]), ratio)


def test_ddpm_keeps_the_variance(chapter):
    # If all pictures are one, its way back is known: half way z has the mean sqrt(alpha_bar) times
    # the picture and the variance 1 - alpha_bar, however the steps were taken.
    field = lambda x, t: (2 - x) / (1 - t)  # noqa: E731
    grid = chapter.ddpm_grid(50)
    assert grid[0] < 1e-4 and grid[-1] == 1 and (np.diff(grid) > 0).all()
    half = grid[grid < 0.5]
    for share in (0.0, 0.5, 1.0):
        z = chapter.diffusion(field, noise(20_000), half, share, seed=1)
        assert np.mean(z) == pytest.approx(2 * np.sqrt(half[-1]), abs=0.02)
        assert np.std(z) == pytest.approx(np.sqrt(1 - half[-1]), abs=0.02)
    assert np.array_equal(z, chapter.diffusion(field, noise(20_000), half, 1.0, seed=1))
    assert not np.allclose(z, chapter.diffusion(field, noise(20_000), half, 1.0, seed=2))


# Sampling


def test_samples_are_pictures_and_depend_on_seed_and_class(chapter, network):
    labels = np.array([0, 1, 2, CLASSES])
    one = chapter.sample(network, labels, steps=3, seed=1)
    assert one.shape == (4, 8, 8, 1) and one.min() >= 0 and one.max() <= 1
    assert np.array_equal(one, chapter.sample(network, labels, steps=3, seed=1))
    assert not np.allclose(one, chapter.sample(network, labels, steps=3, seed=2))
    assert not np.allclose(one[:1], chapter.sample(network, [1], steps=3, seed=1))


def test_guidance_interpolates_and_goes_beyond(chapter, network):
    x, labels = noise(2, 8, 8, 1), np.array([0, 2])
    fields = {w: chapter.make_field(network, labels, w)(x, 0.5) for w in (0, 1, 3)}
    free = chapter.make_field(network, [CLASSES, CLASSES])(x, 0.5)
    assert np.allclose(fields[0], free, atol=1e-5)
    assert not np.allclose(fields[1], free, atol=1e-3)
    assert np.allclose(fields[3], free + 3 * (fields[1] - free), atol=1e-4)


def test_wrong_requests_are_refused(chapter, network):
    for request_, message in [
        ({"steps": 0}, "steps: expected a whole number >= 1, got 0"),
        ({"steps": 2.5}, "steps: .* got 2.5"),
        ({"steps": True}, "steps: .* got True"),
        ({"steps": "ten"}, "steps: .* got 'ten'"),
        ({"guidance": float("nan")}, "guidance: expected a finite number, got nan"),
        ({"guidance": float("inf")}, "guidance: "),
        ({"guidance": None}, "guidance: "),
        ({"labels": [CLASSES + 1]}, "classes 0 to 2, and 3 for none; got 4"),
        ({"labels": [0, -1]}, "got -1"),
        ({"labels": [0.5]}, "labels: expected a row of whole numbers"),
        ({"labels": []}, "labels: expected a row of whole numbers"),
        ({"labels": 1}, "labels: expected a row of whole numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            chapter.sample(network, **{"labels": [0, 1]} | request_)


# The network


def test_the_network_takes_both_sizes(chapter):
    for channels in [1, 3]:
        for size in [28, 32]:
            built = chapter.build_velocity(size, channels, CLASSES, width=8)
            velocity = built(
                [noise(2, size, size, channels), np.ones((2, 1)) / 2, np.array([[0], [3]])]
            )
            assert velocity.shape == (2, size, size, channels)


def test_what_is_predicted_gives_the_velocity(chapter):
    image, start, t = noise(3, 4, 4, 1), noise(3, 4, 4, 1, seed=1), np.full((3, 1), 0.25, "float32")
    x_t = 0.75 * start + 0.25 * image
    truth = {"picture": image, "noise": start, "velocity": image - start}
    for kind, prediction in truth.items():
        found = chapter.to_velocity(prediction, x_t, t, kind)
        assert np.allclose(found, image - start, atol=1e-5), kind


@pytest.fixture(params=["mixed_bfloat16", "mixed_float16"])
def policy(request, plain_losses):
    """Each precision of half the bits; the float32 losses are there first."""
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def train(chapter, folder, steps=6, **options):
    """A small training on two kinds of picture, black and white halves."""
    images = np.zeros((16, 8, 8, 1), np.uint8)
    images[::2, :, :4] = images[1::2, :4] = 255
    data = datasets.Dataset("halves", "train", images, np.arange(16) % 2)
    options = {"steps": steps, "width": 8, "depth": 1, "seed": 3} | options
    flow = chapter.build_flow(tf.distribute.get_strategy(), 8, 1, 2, **options)
    for optimizer in flow.optimizers.values():
        if hasattr(optimizer, "dynamic_scale"):
            # As it is after a while, so that no step is left out.
            optimizer.dynamic_scale.assign(1024.0)
    return flow, training.fit(flow, datasets.batches(data, 8, labels=True), steps, folder)


@pytest.fixture(scope="module")
def plain_losses(chapter, tmp_path_factory):
    """The losses in float32."""
    return train(chapter, tmp_path_factory.mktemp("plain"))[1].losses["velocity"]


def test_half_precision_gives_the_same_losses(chapter, plain_losses, policy, tmp_path):
    flow, history = train(chapter, tmp_path)
    assert np.allclose(history.losses["velocity"], plain_losses, rtol=0.02)  # as for chapter 04
    assert flow.velocity.output.dtype == "float32"


def test_training_learns(chapter, tmp_path):
    flow, history = train(chapter, tmp_path, steps=120, rate=5e-3)
    losses = history.losses["velocity"]
    assert np.mean(losses[-5:]) < 0.2 * losses[0]
    made = chapter.sample(flow.averages["velocity"], [0, 1] * 8)
    assert np.mean(np.abs(made - 0.5)) > 0.4  # black and white, as the pictures are


JOB = """
chapter = notebook_cells.load("10")
pictures = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1)).astype(np.uint8)
data = datasets.Dataset("noise", "train", pictures, np.arange(16) % 3)
flow = chapter.build_flow(run.strategy, 8, 1, 3, steps=8, width=8, depth=1, seed=3)
with run.strategy.scope():
    flow.compile({"velocity": sgd(0.01)}, average={"velocity": 0.99})
batches = datasets.batches(data, 8, labels=True)
finish(flow, training.fit(flow, batches, 8, sys.argv[2] + "-run"))
"""


def test_two_replicas_train_the_same_network_as_one(tmp_path):
    assert replicas.gap(JOB, tmp_path) <= 1e-5


def test_the_saved_network_is_read_in_a_fresh_process(network, tmp_path):
    inputs = [noise(2, 8, 8, 1), np.full((2, 1), 0.4, np.float32), np.array([[1], [CLASSES]])]
    found = fresh.output(network, inputs, tmp_path)
    assert np.allclose(found, network(inputs), atol=1e-4)


def test_the_shipped_network_obeys():
    from imagegen_tf import classifiers

    chapter, asked = notebook_cells.load("10"), np.arange(50) % 10
    made = chapter.sample(weights.load("10_flow_matching/velocity"), asked)
    answers = training.predict(classifiers.network(datasets.load("digits")), made).argmax(axis=1)
    assert made.shape == (50, 28, 28, 1)
    assert np.mean(answers == asked) >= 0.8
    assert Path(weights.path("10_flow_matching/velocity")).stat().st_size <= 6e6
