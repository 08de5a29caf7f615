"""distributed: one replica, two replicas and two processes train the same network.

They draw the same noise and see the same pictures, so that only rounding may tell them apart. How
much rounding does is seen on one replica whose batches come in another order: that is the same
mathematics. Where a step is smooth, rounding is 1e-6 of the largest gradient. Where an activation
lies within rounding of a ReLU's kink, it switches, and moves the gradient by more; over twenty
steps nearly every training meets such a kink. All run without oneDNN, whose convolutions for
AVX-512 choose their algorithm by the size of the batch.
"""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import training_jobs
from processes import finish, gap, load, start, workers

from imagegen_tf import training

pytestmark = pytest.mark.usefixtures("float32")
MODELS, OTHERS = ("small", "04", "05"), ("two", "worker0", "worker1")


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    """Train on one replica (permuted, too), on two, in two processes; give the results' folder."""
    folder = tmp_path_factory.mktemp("ways")
    plain = {"TF_ENABLE_ONEDNN_OPTS": "0"}
    alone = [
        start("same", folder / "one", **plain),
        start("same", folder / "permuted", "permuted", **plain),
        start("same", folder / "two", **plain, IMAGEGEN_CPU_REPLICAS="2"),
    ]
    for process in alone:
        finish(process)
    for process in workers("same", folder, **plain):
        assert "This is worker" in finish(process)
    return folder


def changes_apart(folder, other, model, steps):
    """Per seed, how far changes of weights are from one replica's, as share of the largest."""
    with (
        np.load(folder / "one-changes.npz") as one,
        np.load(folder / f"{other}-changes.npz") as two,
    ):
        assert set(two.files) <= set(one.files)
        gaps = []
        for seed in range(10):
            names = [name for name in two.files if name.startswith(f"{model}/{steps}/{seed}/")]
            if names:
                largest = max(np.abs(one[name]).max() for name in names)
                gaps.append(max(np.abs(one[name] - two[name]).max() for name in names) / largest)
    assert np.isfinite(gaps).all()
    return np.array(gaps)


@pytest.mark.parametrize("model", MODELS)
def test_a_step_does_not_depend_on_the_number_of_replicas(ways, model):
    for other in OTHERS:
        gaps = changes_apart(ways, other, model, 1)
        assert len(gaps) == (10 if other == "two" else 2)
        assert np.median(gaps) < (2e-6 if other == "two" else 4e-6)
        assert model != "05" or gaps.max() < 1e-6  # the VAE's step is smooth for every seed


@pytest.mark.parametrize("model", MODELS)
def test_over_many_steps_replicas_do_no_more_than_another_order_does(ways, model):
    rounding = changes_apart(ways, "permuted", model, 20).max()
    for other in OTHERS:
        assert changes_apart(ways, other, model, 20).max() < 5 * rounding < 0.01


def test_replicas_draw_different_noise_that_together_is_the_batch_of_one(ways):
    (whole,) = load(ways / "one-noise.npz")
    first, second = load(ways / "two-noise.npz")
    assert not np.isclose(first, second).any()
    assert np.array_equal(whole, np.concatenate([first, second]))
    shares = [load(ways / f"worker{index}-noise.npz")[0] for index in range(2)]
    assert np.array_equal(whole, np.concatenate(shares))


@pytest.mark.parametrize("policy", training_jobs.POLICIES)
def test_losses_shown_do_not_depend_on_the_number_of_replicas(ways, policy):
    one = json.loads((ways / f"one-{policy}.json").read_text())
    assert len(one["generator"]) == 20
    for other in OTHERS:
        two = json.loads((ways / f"{other}-{policy}.json").read_text())
        bound = 1e-4 if policy == "float32" else 0.02
        assert all(np.allclose(one[name], two[name], rtol=bound, atol=0) for name in one)


def test_two_processes_end_with_the_same_weights_and_only_the_chief_writes(ways):
    for policy in training_jobs.POLICIES:
        mine, theirs = (load(ways / f"worker{i}-{policy}.npz") for i in range(2))
        assert gap(mine, theirs) == 0
    assert (ways / "worker0-run").exists()
    assert not (ways / "worker1-run").exists()


def test_an_infinity_on_replica_1_skips_the_step_everywhere(tmp_path):
    finish(start("overflow", tmp_path / "two", IMAGEGEN_CPU_REPLICAS="2"))
    before, planted, after = (
        load(tmp_path / f"two-{name}.npz") for name in ("before", "planted", "after")
    )
    scales = json.loads((tmp_path / "two.json").read_text())
    # The discriminator, without the infinity, keeps its scale; the generator's is halved.
    assert scales == [[2**15, 2**15], [2**14, 2**15], [2**14, 2**15]]
    assert gap(before, planted) == 0 < gap(before, after)
    assert all(np.isfinite(array).all() for array in load(tmp_path / "two-state.npz"))


def test_what_keras_gets_wrong_by_itself_is_still_wrong(tmp_path):
    """If this fails, Keras was mended: minimize and make_train_function can become simpler."""
    overflow = start("keras_overflow", tmp_path / "two", IMAGEGEN_CPU_REPLICAS="2")
    assert not np.isfinite(float(finish(overflow).split()[-1]))
    for process in workers("keras_fit", tmp_path):
        assert "Invalid reduction dimension 0" in finish(process)


def test_what_was_built_outside_the_scope_is_refused_and_unequal_statistics_are_named(tmp_path):
    printed = finish(start("outside", tmp_path / "two", IMAGEGEN_CPU_REPLICAS="2"))
    assert printed.count("generator or its optimizer was built outside") == 2
    assert printed.count("compiled\n") == 1
    assert printed.count("normalises each replica's share by itself") == 2


@pytest.fixture
def model():
    """The small GAN on one replica."""
    return training_jobs.build(tf.distribute.get_strategy())


def test_noise_differs_between_calls_steps_and_seeds(model):
    def draw(seed=3, step=5):
        model.seed, model.train_step = seed, lambda batch: {"a": model.normal((64, 3, 5))}
        both = tf.function(lambda: (model.normal((64, 3, 5)), model.normal((64, 3, 5))))
        model.step.assign(step)
        model._replica.calls = 0
        return [drawn.numpy() for drawn in both()]

    first, second = draw()
    for other in (second, draw(step=6)[0], draw(seed=4)[0]):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.15  # 960 numbers: 4.6 sigma
    assert np.array_equal(first, draw()[0])


def test_noise_has_the_right_distribution(model):
    normal, uniform = model.normal((1000, 1001)).numpy(), model.uniform((1000, 1001)).numpy()
    # A million draws: four standard errors of mean and variance.
    assert abs(normal.mean()) < 0.004 and abs(normal.var() - 1) < 0.006
    assert abs(uniform.mean() - 0.5) < 0.0012 and abs(uniform.var() - 1 / 12) < 0.0004
    assert uniform.min() >= 0 and uniform.max() < 1


def test_noise_in_a_loop_of_the_graph_is_refused(model):
    @tf.function
    def looped():
        total = tf.zeros((2, 3))
        for _ in tf.range(3):
            total += model.normal((2, 3))
        return total

    with pytest.raises(RuntimeError, match="each pass of the loop would draw the same"):
        looped()


def test_averages_follow_their_network(tmp_path):
    model = training_jobs.build(tf.distribute.get_strategy(), average={"generator": 0.5})
    slow = [variable.numpy() for variable in model.averages["generator"].variables]
    for step in range(3):
        training.fit(model, training_jobs.batches(), 1, tmp_path)
        # The decay is at most (1 + step) / (10 + step), so that the start is soon forgotten.
        rate = 1 - min(0.5, (1 + step) / (10 + step))
        fast = [variable.numpy() for variable in model.generator.variables]
        slow = [a + rate * (b - a) for a, b in zip(slow, fast, strict=True)]
    assert gap(slow, [v.numpy() for v in model.averages["generator"].variables]) < 1e-5


WRONG_LOSSES = {
    r"got float32 of shape \(2,\)": lambda model, loss: tf.stack([loss, loss]),
    "got float16": lambda model, loss: tf.cast(loss, tf.float16),
    "it does not depend on generator": lambda model, loss: tf.constant(1.0),
}


@pytest.mark.parametrize("message", WRONG_LOSSES)
def test_wrong_losses_are_refused(tmp_path, message):
    model = training_jobs.build(tf.distribute.get_strategy(), spoil=WRONG_LOSSES[message])
    with pytest.raises(ValueError, match=message):
        training.fit(model, training_jobs.batches(), 1, tmp_path)
    assert not (tmp_path / "checkpoint.npz").exists()


def test_compile_refuses_what_would_go_wrong(model, tmp_path):
    adam = keras.optimizers.Adam
    for optimizers, reason in (
        ({"critic": keras.optimizers.SGD()}, "no network 'critic'"),
        ({"generator": adam(clipnorm=1.0)}, "it would clip each replica's share"),
        ({"generator": adam(use_ema=True)}, "ask for averages"),
        ({"generator": adam(gradient_accumulation_steps=2)}, "fails with several replicas"),
        ({"generator": keras.optimizers.LossScaleOptimizer(adam())}, "itself scales the loss"),
    ):
        with pytest.raises(ValueError, match=reason):
            model.compile(optimizers)
    with pytest.raises(ValueError, match="XLA is for a single GPU"):
        model.compile({"generator": keras.optimizers.SGD()}, jit=True)
    model.compile({"discriminator": keras.optimizers.SGD()})
    with pytest.raises(ValueError, match="generator has no optimizer: name it in compile"):
        training.fit(model, training_jobs.batches(), 1, tmp_path)


def test_compile_again_forgets_what_was_before(model):
    few = len(model.state())
    adams = {name: keras.optimizers.Adam() for name in model.optimizers}
    model.compile(adams, average={"generator": 0.9})
    assert len(model.state()) > few
    model.compile({name: keras.optimizers.SGD() for name in model.optimizers})
    assert not model.averages and len(model.state()) == few


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_networks_may_share_an_optimizer(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    vaes = [training_jobs.chapters_model("05", tf.distribute.get_strategy()) for _ in range(2)]
    sgd = {name: keras.optimizers.SGD(1e-5) for name in ("encoder", "decoder")}
    vaes[0].compile(sgd)
    vaes[1].compile({("encoder", "decoder"): keras.optimizers.SGD(1e-5)})
    for vae in vaes:
        training.fit(vae, training_jobs.batches(), 5, tmp_path)
    own, shared = ([v.numpy() for v in vae.trainable_variables] for vae in vaes)
    assert gap(own, shared) == 0
    (optimizer,) = vaes[1].optimizers.values()
    assert int(optimizer.iterations.numpy()) == 5
