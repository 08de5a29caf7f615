"""weights: whole files under their names or none, and hashes that are checked."""

import os
import random
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from imagegen_tf import weights


@pytest.fixture
def policy():
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "weights")
    return tmp_path / "weights"


def small(units=3):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])


def nested():
    """Build a network with whole numbers coming in, a network inside and a wrapped layer."""
    words = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(7, 4)(words)
    x = keras.layers.TimeDistributed(keras.layers.Dense(4, activation="relu"))(x)
    x = keras.Sequential([keras.Input((5, 4)), keras.layers.LayerNormalization()])(x)
    x = keras.ops.cast(keras.layers.Dropout(0.5, seed=1)(x), "float32")
    return keras.Model(words, keras.layers.Dense(2, name="logits")(x))


def computing(network):
    """List the layers that compute: what holds them follows the policy, and casts nothing."""
    holders = (keras.Model, keras.layers.InputLayer)
    return [layer for layer in network._flatten_layers() if not isinstance(layer, holders)]


@pytest.mark.parametrize("name", ["float32", "mixed_bfloat16", "mixed_float16", "bfloat16"])
@pytest.mark.parametrize("build", [small, nested])
def test_a_saved_network_is_a_float32_copy(tmp_path, policy, name, build):
    policy(name)
    network = build()
    file = tmp_path / "new" / "folder" / "captioner.keras"
    weights.save(network, file)
    assert os.listdir(file.parent) == [file.name]
    loaded = keras.saving.load_model(file)
    assert type(loaded) is type(network)
    assert {layer.compute_dtype for layer in computing(loaded)} == {"float32"}
    assert {value.dtype for value in loaded.weights} == {"float32"}
    for ours, theirs in zip(loaded.get_weights(), network.get_weights(), strict=True):
        assert np.array_equal(ours, theirs.astype(np.float32))
    batch = np.arange(4 * 3).reshape(3, 4) if build is small else np.arange(15).reshape(3, 5) % 7
    # bfloat16 keeps 8 bits.
    theirs = np.asarray(keras.ops.cast(network(batch), "float32"))
    np.testing.assert_allclose(loaded(batch), theirs, rtol=0.05, atol=0.1)
    assert loaded(batch).dtype == tf.float32
    policy("float32")
    elsewhere = keras.saving.load_model(file)(batch)
    assert np.array_equal(elsewhere, loaded(batch))


def test_policy_and_random_numbers_stay_as_they_were(tmp_path, policy):
    policy("mixed_bfloat16")
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        network = small()
    state = random.getstate()
    weights.save(network, tmp_path / "generator.keras")
    loaded = weights.read(tmp_path / "generator.keras")
    assert random.getstate() == state
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert loaded(np.zeros((1, 4))).dtype == tf.float32
    assert np.array_equal(loaded.get_weights()[0], network.get_weights()[0])
    # Inside the scope the network would live on all replicas.
    for call in (weights.read, lambda file: weights.save(network, file)):
        with strategy.scope(), pytest.raises(RuntimeError, match="outside of `with strategy"):
            call(tmp_path / "generator.keras")


def test_networks_that_could_not_be_loaded_are_refused(tmp_path):
    class Own(keras.Model):
        pass

    lam = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x)])
    with pytest.raises(TypeError, match="Lambda"):
        weights.save(lam, tmp_path / "a.keras")
    with pytest.raises(TypeError, match="Own"):
        weights.save(Own(), tmp_path / "a.keras")
    with pytest.raises(ValueError, match="ends in .keras"):
        weights.save(small(), tmp_path / "a.h5")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_the_old_file_and_no_part_of_the_new_one(tmp_path):
    resource = pytest.importorskip("resource")
    file = tmp_path / "generator.keras"
    weights.save(small(), file)
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(OSError, match=re.escape(str(file))):
            weights.save(small(100_000), file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == [file.name]
    assert file.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="file/generator.keras"):
        weights.save(small(), tmp_path / "file" / "generator.keras")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError, match="generator.keras"):
        weights.save(small(), tmp_path / "generator.keras")
    assert os.listdir(tmp_path) == ["file"]


def test_kept_networks_are_found_checked_and_loaded(shelf):
    networks = {name: small() for name in ("b", "a")}
    for name, network in networks.items():
        weights.keep(name, network)
    weights.keep("b", networks["b"])  # once more: still one line each
    text = (shelf / "SHA256SUMS").read_text()
    assert re.fullmatch(r"[0-9a-f]{64}  a\.keras\n[0-9a-f]{64}  b\.keras\n", text)
    for name, network in networks.items():
        assert np.array_equal(weights.load(name).get_weights()[0], network.get_weights()[0])
    assert sorted(os.listdir(shelf)) == ["SHA256SUMS", "a.keras", "b.keras"]


def test_a_damaged_or_missing_file_is_said_clearly(shelf):
    with pytest.raises(FileNotFoundError, match="there are: none"):
        weights.path("a")
    for name in ("a", "b", "c"):
        weights.keep(name, small())
    content = bytearray((shelf / "a.keras").read_bytes())
    content[-1] ^= 1
    (shelf / "a.keras").write_bytes(content)
    (shelf / "b.keras").unlink()
    for name in ("b", "unknown"):
        with pytest.raises(FileNotFoundError, match=f"{name}.keras.*there are: a, c$"):
            weights.path(name)
    for call in (weights.path, weights.load):
        with pytest.raises(ValueError, match="a.keras is damaged .*git checkout"):
            call("a")
    assert weights.path("c") == shelf / "c.keras"


def test_every_shipped_file_has_a_hash_and_is_small():
    files = sorted(weights.FOLDER.glob("*.keras"))
    assert {"features_digits", "features_letters"} <= {file.stem for file in files}
    for file in files:
        assert weights.path(file.stem) == file
        assert file.stat().st_size < 1_000_000
