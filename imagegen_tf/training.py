"""Training that is written once and runs on one processor, several GPUs, several machines.

`DistributedModel` leaves `train_step` to the chapter and takes care of what is easy to get wrong:
the scale of the loss, noise per replica, the losses that are shown, building optimizers. `fit`
trains it with progress, samples and resumption.
"""

import threading

import numpy as np

from imagegen_tf import runtime, sessions

with runtime.quiet():
    import keras
    import tensorflow as tf

_CLIPS = "it would clip each replica's share"
_REFUSED = dict.fromkeys(("clipnorm", "global_clipnorm", "clipvalue"), _CLIPS) | {
    "use_ema": "ask for averages with `average`",
    "gradient_accumulation_steps": "it fails with several replicas",
    "inner_optimizer": "compile itself scales the loss where that is needed",
}
_PHILOX = 1  # TensorFlow's number for the random generator that every device computes alike


class DistributedModel(keras.Model):
    """A model whose `train_step` stands in the chapter and runs unchanged on any devices.

    Build the networks and this model inside `strategy.scope()`, then call `compile` there too.
    In `train_step(self, batch)`, which every replica runs on its share of the batch:

    - take the batch size from the tensor, never from a global: a replica sees only its share;
    - draw noise with `self.normal` and `self.uniform`;
    - write losses as float32 means over the share, and hand each to `self.minimize`;
    - return a dict of losses to show.

    The result does not depend on the number of replicas, as long as no layer draws its own random
    numbers (Dropout) and BatchNormalization is `synchronized=True`. A `test_step` is written alike.

    Args:
        seed: whole number; all noise depends on it and on the step alone.
    Taught in: notebooks/04_dcgan.ipynb
    """

    def __init__(self, seed=0):
        super().__init__()
        self.seed = int(seed)
        self.step = keras.Variable(0, dtype="int64", trainable=False, name="step")
        self.averages, self.decays = {}, {}
        self.optimizers = {}
        self.recent = []  # the losses of each step since `fit` last looked; not waited for
        self._replica = threading.local()  # MirroredStrategy runs each replica in a thread

    def compile(self, optimizers, average=None, jit=False):
        """Give each network its optimizer, and make what training needs.

        Args:
            optimizers: dict of attribute name, such as "generator", to a Keras optimizer. With
                precision mixed_float16 each is wrapped in a LossScaleOptimizer.
            average: dict of attribute name to decay, such as {"generator": 0.999}. After every
                step `averages[name]`, a copy of the network, moves towards it by 1 - decay, and by
                more in the first steps.
            jit: compile the step with XLA; for a single GPU only.
        Raises:
            ValueError: no such network; an optimizer that clips, averages, accumulates gradients or
                scales the loss; XLA elsewhere than on a single GPU.
            RuntimeError: a network or an optimizer was built outside the strategy's scope.
        """
        strategy = self.distribute_strategy
        is_one_gpu = strategy.num_replicas_in_sync == 1 and tf.config.list_logical_devices("GPU")
        if jit and not is_one_gpu:
            raise ValueError("jit: XLA is for a single GPU; elsewhere it is slower, or fails")
        for name, optimizer in optimizers.items():
            for setting, reason in _REFUSED.items():
                if getattr(optimizer, setting, None):
                    raise ValueError(f"{name}: {setting} of its optimizer is set; {reason}")
            for variable in self._network(name).variables + optimizer.variables:
                if not strategy.extended.variable_created_in_scope(variable.value):
                    raise RuntimeError(
                        f"{name} or its optimizer was built outside the strategy's scope: build "
                        "networks, model and optimizers inside `with run.strategy.scope():`"
                    )
        self.optimizers.clear()
        self.averages.clear()
        self.decays = dict(average or {})
        with strategy.scope():
            for name, optimizer in optimizers.items():
                if keras.config.dtype_policy().name == "mixed_float16":
                    optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
                optimizer.build(self._network(name).trainable_variables)
                self.optimizers[name] = optimizer
            for name in self.decays:
                self.averages[name] = keras.models.clone_model(self._network(name))
                self.averages[name].set_weights(self._network(name).get_weights())
            super().compile(optimizer=None, jit_compile=False)
        self._jit = jit
        self.built = True

    def _network(self, name):
        """Give the network with this attribute name."""
        network = getattr(self, name, None)
        if not isinstance(network, keras.Model):
            raise ValueError(f"this model has no network {name!r}")
        return network

    def state(self):
        """List all variables that training changes, in a fixed order.

        Returns:
            list of keras.Variable: step, networks, averages, optimizers.
        """
        parts = [[self.step], self.variables]
        parts += [network.variables for network in self.averages.values()]
        parts += [optimizer.variables for optimizer in self.optimizers.values()]
        return list({id(variable): variable for part in parts for variable in part}.values())

    def minimize(self, tape, loss, *networks):
        """Take an optimizer step that lowers the mean of a loss over the global batch.

        Averages the gradients over the replicas. With mixed_float16 it scales the loss, and if any
        gradient is not finite on any replica, all of them skip the step and halve the scale: by
        itself Keras' LossScaleOptimizer looks at replica 0 only.

        Args:
            tape: tf.GradientTape that recorded the loss; persistent if it is used again.
            loss: float32 scalar, a mean over this replica's share of the batch.
            networks: whose weights move; each has an optimizer in `compile`.
        Raises:
            ValueError: the loss is no float32 scalar, does not depend on a network, or a network
                has no optimizer.
        """
        if loss.dtype != tf.float32 or loss.shape.rank != 0:
            raise ValueError(
                "loss: expected a float32 scalar, a mean over the batch; got "
                f"{loss.dtype.name} of shape {tuple(loss.shape)}"
            )
        optimizers = [self._optimizer_of(network) for network in networks]
        scale = optimizers[0].scale_loss(tf.ones(()))
        context = tf.distribute.get_replica_context()
        # The sum over replicas of loss / replicas is the mean over the global batch.
        weight = scale / context.num_replicas_in_sync
        variables = [network.trainable_variables for network in networks]
        gradients = tape.gradient(loss, variables, output_gradients=weight)
        for network, own in zip(networks, gradients, strict=True):
            if all(gradient is None for gradient in own):
                raise ValueError(f"loss: it does not depend on {network.name}")
        if isinstance(optimizers[0], keras.optimizers.LossScaleOptimizer):
            everything = [
                tf.convert_to_tensor(g) for g in tf.nest.flatten(gradients) if g is not None
            ]
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(one)) for one in everything])
            overflows = context.all_reduce("sum", tf.cast(~finite, tf.float32))
            poison = tf.where(overflows > 0, float("nan"), 1.0)
            scales = [optimizer.scale_loss(tf.ones(())) for optimizer in optimizers]
            gradients = [
                [None if g is None else g * (poison * own_scale / scale) for g in own]
                for own, own_scale in zip(gradients, scales, strict=True)
            ]
        for optimizer, own, targets in zip(optimizers, gradients, variables, strict=True):
            optimizer.apply_gradients(zip(own, targets, strict=True))

    def _optimizer_of(self, network):
        """Find a network's optimizer."""
        for name, optimizer in self.optimizers.items():
            if getattr(self, name) is network:
                return optimizer
        raise ValueError(f"{network.name} has no optimizer: name it in compile")

    def normal(self, shape):
        """Draw standard normal numbers, the same global batch on any number of replicas.

        Call it in `train_step` or `test_step`. Every call in a step draws other numbers; so does
        every step. The draw is a function of the model's seed, the step, the place of the call, and
        the position in the global batch. In a tf.range loop there is but one place: draw before it.

        Args:
            shape: (share of the batch, ...); the first may be a tensor, the others are integers.
        Returns:
            float32 tensor of that shape.
        Raises:
            RuntimeError: called inside a loop of the graph, where each pass would draw the same.
        References:
            Salmon et al., 2011, Parallel random numbers: as easy as 1, 2, 3,
            doi:10.1145/2063384.2063405
        Taught in: notebooks/04_dcgan.ipynb
        """
        return self._draw(tf.raw_ops.StatelessRandomNormalV2, shape)

    def uniform(self, shape):
        """Draw numbers evenly from [0, 1), in all else as `normal` does.

        Args:
            shape: (share of the batch, ...).
        Returns:
            float32 tensor of that shape.
        """
        return self._draw(tf.raw_ops.StatelessRandomUniformV2, shape)

    def _draw(self, operation, shape):
        """Draw this replica's rows: the counter of the generator starts where they do."""
        if "While" in type(tf.compat.v1.get_default_graph()).__name__:
            raise RuntimeError("each pass of the loop would draw the same noise: draw before it")
        rows, *rest = shape
        size = 1
        for length in rest:
            size *= int(length)
        blocks = -(-size // 4)  # Philox draws four numbers at a time; a row begins a new block
        call = self._replica.calls = getattr(self._replica, "calls", 0) + 1
        step = tf.cast(getattr(self._replica, "step", self.step.value), tf.int64)
        key = tf.raw_ops.StatelessRandomGetKeyCounter(
            seed=tf.stack([self.seed + (call << 32), step])
        )
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
        start = replica * tf.cast(rows, tf.int64) * blocks
        counter = key.counter + tf.cast(tf.stack([start, 0]), tf.uint64)
        drawn = operation(shape=[rows, 4 * blocks], key=key.key, counter=counter, alg=_PHILOX)
        return tf.reshape(drawn[:, :size], [rows, *rest])

    def distributed(self, step_function):
        """Compile a step for all replicas: run it on each, and average what it returns.

        Args:
            step_function: `self.train_step` or `self.test_step`.
        Returns:
            Function of (step number, batch) that gives a dict of float32 scalars.
        """
        strategy = self.distribute_strategy

        def on_replica(step, batch):
            self._replica.step, self._replica.calls = step, 0
            try:
                return step_function(batch)
            finally:
                del self._replica.step

        def everywhere(step, batch):
            losses = strategy.run(on_replica, args=(step, batch))
            return {name: strategy.reduce("mean", loss, axis=None) for name, loss in losses.items()}

        return tf.function(everywhere, jit_compile=self._jit, reduce_retracing=True)

    def make_train_function(self, force=False):
        """Replace Keras' own, which fails on several machines (it reduces scalars along axis 0)."""
        if self.train_function is not None and not force:
            return
        step = self.distributed(self.train_step)

        @tf.function
        def one_step(batch):
            losses = step(self.step.value, batch)
            self._move_averages()
            self.step.assign_add(1)
            return losses

        def train(iterator):
            losses = one_step(next(iterator))
            self.recent.append(losses)
            return losses

        self.train_function = train

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Do nothing: all is built. Keras' own takes a batch, and reduces it over the machines."""

    def _move_averages(self):
        """Move each averaged copy towards its network."""
        step = tf.cast(self.step.value, tf.float32)
        update = self.distribute_strategy.extended.update
        for name, decay in self.decays.items():
            rate = 1 - tf.minimum(decay, (1 + step) / (10 + step))
            pairs = zip(self.averages[name].variables, getattr(self, name).variables, strict=True)
            for slow, fast in pairs:
                if slow.dtype == "float32":
                    update(
                        slow.value,
                        lambda a, b, rate: a.assign_add(rate * (b - a)),
                        args=(fast.value, rate),
                        group=False,
                    )


def fit(
    model,
    data,
    steps,
    run_dir,
    *,
    samples=None,
    samples_every=None,
    save_every=30.0,
    callbacks=(),
):
    """Train a model for a number of steps; go on where an interrupted training stopped.

    A model that was trained before is trained on from where it stands, as Keras' own fit does.
    Shows progress, the time left and samples. Keeps a checkpoint in `run_dir` while it trains, and
    removes it when all steps are done: what is finished is not resumed. A checkpoint of another
    training is not used: fingerprints.of says what must be equal. Writes for TensorBoard to
    `run_dir`/tensorboard where TensorBoard is installed. On several machines the chief alone reads
    and writes, and sends what it read to the others.

    Args:
        model: DistributedModel, compiled.
        data: tf.data.Dataset without end, as datasets.batches makes it.
        steps: training steps, >= 1.
        run_dir: folder for what is kept; best another one for each training.
        samples: function without arguments that gives images (number, height, width, channels) in
            [0, 1]; shown while training, and kept in the history.
        samples_every: steps between samples; by default an eighth of all.
        save_every: seconds between checkpoints.
        callbacks: of keras.callbacks.Callback, such as EarlyStopping; what Keras calls an epoch is
            one record here, and `model.optimizer` is not there.
    Returns:
        journal.History.
    Raises:
        FloatingPointError: a loss is not finite.
        ValueError: fewer than 1 step, data that end too early or that replicas cannot share.
        OSError: `run_dir` cannot be written, or the disk is full.
        RuntimeError: another machine stopped.
    Taught in: notebooks/04_dcgan.ipynb
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    every = min(100, max(1, steps // 200))
    samples_every = samples_every or max(every, steps // 8 // every * every)
    session = sessions.Session(model, steps, run_dir, samples, samples_every, save_every)
    model.stop_training = False
    try:
        session.begin(data)
        while (step := int(model.step.numpy())) < session.target and not model.stop_training:
            each = min(every - (step - session.history.first) % every, session.target - step)
            model.fit(
                sessions.shared(model.distribute_strategy, data.skip(step)),
                steps_per_epoch=each,
                epochs=(session.target - step) // each if each == every else 1,
                verbose=0,
                shuffle=False,
                callbacks=[session, *callbacks],
            )
    except KeyboardInterrupt:
        session.stop()
        raise
    except Exception as error:
        session.abandon()
        if not isinstance(error, sessions.LOST) or runtime.worker()[1] == 1:
            raise
        raise RuntimeError(
            "Another machine stopped, or cannot be reached any more. Start all of them again: "
            f"training goes on from the chief's last checkpoint. ({type(error).__name__})"
        ) from error
    session.finish()
    return session.history


def evaluate(model, data):
    """Run `test_step` over data and average what it returns; no weight changes.

    Args:
        model: DistributedModel with a test_step, compiled.
        data: tf.data.Dataset that ends, as datasets.batches(..., repeat=False) makes it.
    Returns:
        dict of name to float.
    Raises:
        ValueError: no batch.
    Taught in: notebooks/05_vae.ipynb
    """
    step = model.distributed(model.test_step)
    # Numbers below 0: noise that no training step draws.
    results = [
        step(tf.constant(-1 - number, tf.int64), batch)
        for number, batch in enumerate(sessions.shared(model.distribute_strategy, data))
    ]
    if not results:
        raise ValueError("data: expected at least one batch")
    return {name: float(np.mean([one[name] for one in results])) for name in results[0]}


def predict(network, inputs, batch_size=500):
    """Apply a network to many inputs, batch by batch, on this machine alone.

    Args:
        network: keras.Model.
        inputs: array (number, ...), or a tuple of them for a network with several inputs.
        batch_size: inputs at a time.
    Returns:
        float32 array (number, ...).
    Taught in: notebooks/04_dcgan.ipynb
    """
    several = isinstance(inputs, tuple)
    arrays = inputs if several else (inputs,)

    @tf.function(reduce_retracing=True)
    def apply(*parts):
        return tf.cast(network(list(parts) if several else parts[0], training=False), tf.float32)

    starts = range(0, len(arrays[0]), batch_size)
    parts = ([one[start : start + batch_size] for one in arrays] for start in starts)
    return np.concatenate([apply(*map(tf.convert_to_tensor, part)).numpy() for part in parts])
