"""A model whose training step runs unchanged on one processor, several GPUs, several machines.

`DistributedModel` leaves `train_step` to the chapter and takes care of what is easy to get wrong:
the scale of the loss, noise per replica, the losses that are shown, building optimizers.
"""

import threading
import warnings

import numpy as np

from imagegen_tf import runtime

with runtime.quiet():
    import keras
    import tensorflow as tf

_CLIPS = "it would clip each replica's share"
_REFUSED = dict.fromkeys(("clipnorm", "global_clipnorm", "clipvalue"), _CLIPS) | {
    "use_ema": "ask for averages with `average`",
    "gradient_accumulation_steps": "it fails with several replicas",
    "inner_optimizer": "compile itself scales the loss where that is needed",
}


class DistributedModel(keras.Model):
    """A model whose `train_step` stands in the chapter and runs unchanged on any devices.

    Build the networks and this model inside `strategy.scope()`, then call `compile` there too.
    In `train_step(self, batch)`, which every replica runs on its share of the batch:

    - take the batch size from the tensor, never from a global: a replica sees only its share;
    - draw noise with `self.normal` and `self.uniform`;
    - write losses as float32 means over the share, and hand each to `self.minimize`;
    - return a dict of losses to show.

    A step does not depend on the number of replicas, but for rounding, as long as no layer draws
    its own random numbers (Dropout) and BatchNormalization is `synchronized=True`. Over many steps
    rounding grows, as it does if a batch is given in another order. A `test_step` is written alike.

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
        self._replica = threading.local()  # MirroredStrategy runs each replica in a thread

    def compile(self, optimizers, average=None, jit=False):
        """Give the networks their optimizers, and make what training needs.

        Args:
            optimizers: dict of attribute name, such as "generator", to a Keras optimizer; a tuple
                of names, such as ("encoder", "decoder"), shares one. With precision mixed_float16
                each is wrapped in a LossScaleOptimizer.
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
        for key, optimizer in optimizers.items():
            for setting, reason in _REFUSED.items():
                if getattr(optimizer, setting, None):
                    raise ValueError(f"{key}: {setting} of its optimizer is set; {reason}")
            self._check_scope(key, optimizer)
        self.optimizers.clear()
        self.averages.clear()
        self.decays = dict(average or {})
        with strategy.scope():
            for key, optimizer in optimizers.items():
                if keras.config.dtype_policy().name == "mixed_float16":
                    optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
                # Built now: inside the compiled step it would be too late for several replicas.
                networks = self._networks(key)
                optimizer.build([v for network in networks for v in network.trainable_variables])
                self.optimizers[key] = optimizer
            for name in self.decays:
                (network,) = self._networks(name)
                self.averages[name] = keras.models.clone_model(network)
                self.averages[name].set_weights(network.get_weights())
            super().compile(optimizer=None, jit_compile=False)
        self._jit = jit
        self.built = True

    def _check_scope(self, key, optimizer):
        """Check that networks and optimizer live on all replicas, statistics of batches too."""
        strategy = self.distribute_strategy
        networks = self._networks(key)
        for variable in sum((network.variables for network in networks), optimizer.variables):
            if not strategy.extended.variable_created_in_scope(variable.value):
                raise RuntimeError(
                    f"{key} or its optimizer was built outside the strategy's scope: build "
                    "networks, model and optimizers inside `with run.strategy.scope():`"
                )
        for layer in (layer for network in networks for layer in _layers(network)):
            is_normalization = isinstance(layer, keras.layers.BatchNormalization)
            if is_normalization and not layer.synchronized and strategy.num_replicas_in_sync > 1:
                warnings.warn(
                    f"{key}: {layer.name} normalises each replica's share by itself; with "
                    "synchronized=True the network would be that of one replica",
                    stacklevel=3,
                )

    def _networks(self, key):
        """List the networks with this attribute name, or these."""
        names = key if isinstance(key, tuple) else (key,)
        networks = [getattr(self, name, None) for name in names]
        for name, network in zip(names, networks, strict=True):
            if not isinstance(network, keras.Model):
                raise ValueError(f"this model has no network {name!r}")
        return networks

    @property
    def steps_done(self):
        """The number of steps that the model was trained for."""
        return int(self.step.numpy())

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
        # float16 has few small numbers: gradients are made of the loss times a scale, which the
        # optimizer takes out again. 1 in the other precisions.
        scale = optimizers[0].scale_loss(tf.ones(()))
        # Keras adds gradients up over the replicas, and a sum of loss / replicas is the mean over
        # the global batch.
        context = tf.distribute.get_replica_context()
        weight = scale / context.num_replicas_in_sync
        variables = [network.trainable_variables for network in networks]
        gradients = tape.gradient(loss, variables, output_gradients=weight)
        for network, own in zip(networks, gradients, strict=True):
            if all(gradient is None for gradient in own):
                raise ValueError(f"loss: it does not depend on {network.name}")
        if isinstance(optimizers[0], keras.optimizers.LossScaleOptimizer):
            # If any replica has an infinity, give all of them NaN, so that each skips the step.
            known = [tf.convert_to_tensor(g) for g in tf.nest.flatten(gradients) if g is not None]
            is_finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in known])
            overflows = context.all_reduce("sum", tf.cast(~is_finite, tf.float32))
            poison = tf.where(overflows > 0, float("nan"), 1.0)
            # Each optimizer takes its own scale out: the first one's is in the gradients.
            scales = [optimizer.scale_loss(tf.ones(())) for optimizer in optimizers]
            gradients = [
                [None if g is None else g * (poison * own_scale / scale) for g in own]
                for own, own_scale in zip(gradients, scales, strict=True)
            ]
        # An optimizer that several networks share takes one step for all of them.
        shared = {}
        for optimizer, own, targets in zip(optimizers, gradients, variables, strict=True):
            pairs = shared.setdefault(id(optimizer), (optimizer, []))[1]
            pairs += zip(own, targets, strict=True)
        for optimizer, pairs in shared.values():
            optimizer.apply_gradients(pairs)

    def _optimizer_of(self, network):
        """Find a network's optimizer."""
        for key, optimizer in self.optimizers.items():
            if any(network is known for known in self._networks(key)):
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
        Taught in: notebooks/04_dcgan.ipynb
        """
        return self._draw(tf.random.stateless_normal, shape)

    def uniform(self, shape):
        """Draw numbers evenly from [0, 1), in all else as `normal` does.

        Args:
            shape: (share of the batch, ...).
        Returns:
            float32 tensor of that shape.
        """
        return self._draw(tf.random.stateless_uniform, shape)

    def _draw(self, operation, shape):
        """Draw the whole global batch on every replica, and give this replica its rows of it."""
        if "While" in type(tf.compat.v1.get_default_graph()).__name__:
            raise RuntimeError("each pass of the loop would draw the same noise: draw before it")
        rows, *rest = shape
        size = int(np.prod(rest, dtype=np.int64))
        whole = -(-size // 4) * 4  # the generator draws four numbers at a time; rows share none
        call = self._replica.calls = getattr(self._replica, "calls", 0) + 1
        step = tf.cast(getattr(self._replica, "step", self.step.value), tf.int64)
        seed = tf.stack([self.seed + (call << 32), step])
        context = tf.distribute.get_replica_context()
        # Philox computes the same numbers on every kind of device.
        drawn = operation([rows * context.num_replicas_in_sync, whole], seed, alg="philox")
        first = rows * context.replica_id_in_sync_group
        return tf.reshape(drawn[first : first + rows, :size], [rows, *rest])

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
        """Compile one step: `train_function(iterator)` takes it and gives its losses.

        In the place of Keras' own, which fails on several machines: it reduces scalars along
        axis 0.
        """
        if self.train_function is not None and not force:
            return
        step = self.distributed(self.train_step)

        @tf.function
        def train_on(batch):
            losses = step(self.step.value, batch)
            self._move_averages()
            self.step.assign_add(1)
            return losses

        self.train_function = lambda iterator: train_on(next(iterator))

    def _move_averages(self):
        """Move each averaged copy towards its network."""
        step = tf.cast(self.step.value, tf.float32)
        update = self.distribute_strategy.extended.update
        for name, decay in self.decays.items():
            # In the first steps by more, so that the start is soon forgotten.
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


def _layers(network):
    """List a network's layers, and those of the networks inside it."""
    for layer in network.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else [layer]


def batch_rows(data):
    """Give the number of images in a batch of this machine.

    Raises:
        ValueError: batches of no fixed size.
    """
    rows = tf.nest.flatten(data.element_spec)[0].shape[0]
    if rows is None:
        raise ValueError("data: expected batches of a fixed size (drop_remainder=True)")
    return rows


def distribute(strategy, data):
    """Deal this machine's batches out to its replicas, the first rows to the first replica.

    Args:
        strategy: tf.distribute.Strategy.
        data: tf.data.Dataset of batches of a fixed size.
    Returns:
        What gives each replica its share; the data themselves where there is but one.
    Raises:
        ValueError: replicas cannot share a batch evenly.
    """
    replicas = strategy.num_replicas_in_sync // runtime.worker()[1]
    if replicas == strategy.num_replicas_in_sync == 1:
        return data
    rows = batch_rows(data)
    if rows % replicas:
        raise ValueError(f"data: {replicas} replicas cannot share {rows} images evenly")
    return strategy.distribute_datasets_from_function(lambda _: data.rebatch(rows // replicas))
