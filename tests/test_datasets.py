"""datasets: the photos inside scikit-image, their halves, one's own photos, the stereo pair."""

import gzip
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from imagegen_tf import datasets, images
from imagegen_tf.datasets import captions, files, scenes

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")


def test_every_photo_is_an_image_with_its_channels():
    assert len(datasets.photo_names()) == 20
    for name in datasets.photo_names():
        images.check(datasets.photo(name), name, channels=(1, 3))


@pytest.mark.parametrize("name", ["astronaut", "camera", "coins", "retina"])
def test_photos_are_scikit_images_own(name):
    theirs = images.to_float(getattr(skimage.data, name)())
    np.testing.assert_allclose(datasets.photo(name), theirs, atol=1e-6)


def test_the_halves_share_nothing_and_the_stereo_pair_stays_together():
    train, test = (set(datasets.PHOTOS[split]) for split in ("train", "test"))
    assert not train & test
    assert {"motorcycle_left", "motorcycle_right"} <= train
    assert {"retina", "microaneurysms"} <= train


@pytest.mark.parametrize("split", ["train", "test"])
def test_load_gives_bytes_with_names_and_a_card(split):
    photos = datasets.load("photos", split)
    assert len(photos.images) == len(photos.class_names) == len(datasets.PHOTOS[split])
    assert all(picture.dtype == np.uint8 for picture in photos.images)
    assert "licence" in photos.card


def test_ones_own_photo_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path))
    (tmp_path / "photos").mkdir()
    red = np.zeros((4, 5, 3), np.float32)
    red[:, :, 0] = 1
    for name in ("mine", "astronaut"):
        images.write(tmp_path / "photos" / f"{name}.png", red)
    assert "mine" in datasets.photo_names()
    assert np.array_equal(datasets.photo("mine"), red)
    assert np.array_equal(datasets.photo("astronaut"), red)
    assert datasets.photo("coffee").shape == (400, 600, 3)


def test_stereo_depth_follows_the_disparity():
    left, right, depth = datasets.stereo()
    assert left.shape == right.shape == (500, 741, 3) and depth.shape == (500, 741)
    known = ~np.isnan(depth)
    # scikit-image's docstring gives the calibration; the disparity map has no value for 7 % of
    # pixels.
    assert known.mean() == pytest.approx(0.9265, abs=0.001)
    assert 2 < depth[known].min() < depth[known].max() < 6
    # A pixel of the left photo is found `disparity` columns further left in the right photo.
    disparity = 994.978 * 0.193001 / depth - 31.086
    rows, columns = np.nonzero(known)
    there = np.rint(columns - disparity[known]).astype(int)
    inside = there >= 0
    moved = np.abs(left[rows, columns] - right[rows, np.maximum(there, 0)])[inside].mean()
    stayed = np.abs(left - right).mean()
    assert moved < 0.4 * stayed


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: datasets.photo("lena"), "astronaut"),
        (lambda: datasets.load("imagenet"), "photos"),
        (lambda: datasets.load("photos", "validation"), "split"),
        (lambda: datasets.Dataset("a", "train", np.zeros((2, 1, 1, 1), np.uint8), [1]), "labels"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(call, words):
    with pytest.raises(ValueError, match=words):
        call()
    with pytest.raises(TypeError, match="uint8"):
        datasets.Dataset("a", "train", np.zeros((2, 1, 1, 1)))
    with pytest.raises(ValueError, match="labels: got 0 to 2 for 2 class names"):
        pictures = np.zeros((2, 1, 1, 1), np.uint8)
        datasets.Dataset("a", "train", pictures, np.array([0, 2]), class_names=("a", "b"))


@pytest.mark.parametrize(("name", "classes"), [("digits", 10), ("letters", 26)])
def test_drawn_sets_are_labelled_and_their_splits_differ(name, classes):
    train, test = datasets.load(name), datasets.load(name, "test")
    assert train.images.shape == (50_000, 28, 28, 1) and test.images.shape == (10_000, 28, 28, 1)
    assert set(np.unique(test.labels)) == set(range(classes)) and len(test.class_names) == classes
    flat = {picture.tobytes() for picture in test.images}
    assert not flat & {picture.tobytes() for picture in train.images}
    assert datasets.load(name, "test").images is test.images
    with pytest.raises(ValueError, match="read-only"):
        test.images[0] = 0


@needs_shared
def test_fashion_mnist_is_read_from_its_original_files(monkeypatch):
    monkeypatch.setenv("IMAGEGEN_DATA", str(SHARED))
    train, test = datasets.load("fashion_mnist"), datasets.load("fashion_mnist", "test")
    assert train.images.shape == (60_000, 28, 28, 1) and test.images.shape == (10_000, 28, 28, 1)
    # ../shared/data/README.md: mean / 255 and standard deviation of the training pictures.
    assert train.images.mean() / 255 == pytest.approx(0.2860406, abs=1e-6)
    assert train.images.std() / 255 == pytest.approx(0.3530242, abs=1e-6)
    assert (np.bincount(train.labels) == 6_000).all() and train.class_names[9] == "ankle boot"


def write_idx(path, values):
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4) for size in values.shape)
    with gzip.open(path, "wb") as file:
        file.write(header + values.tobytes())


def test_idx_files_that_are_damaged_or_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path))
    folder = tmp_path / "mnist"
    folder.mkdir()
    pictures = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.array([3, 7], np.uint8))
    with pytest.raises(FileNotFoundError, match="train-images"):
        datasets.load("mnist")
    path = folder / "train-images-idx3-ubyte.gz"
    write_idx(path, pictures)
    loaded = datasets.load("mnist")
    assert np.array_equal(loaded.images[..., 0], pictures) and loaded.labels.tolist() == [3, 7]
    whole = path.read_bytes()
    write_idx(folder / "t10k-images-idx3-ubyte.gz", pictures[:0])
    with pytest.raises(ValueError, match="holds no picture"):
        datasets.load("mnist", "test")
    for damage in (whole[: len(whole) // 2], b"no gzip at all", gzip.compress(b"too short")):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=r"train-images.* is damaged"):
            datasets.load("mnist")


def test_cifar10_is_read_from_its_binary_version(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path))
    folder = tmp_path / "cifar10"
    folder.mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    # One byte of label, then all red, all green, all blue values, row by row.
    record = [
        bytes([label]) + one.transpose(2, 0, 1).tobytes() for label, one in enumerate(pictures)
    ]
    (folder / "test_batch.bin").write_bytes(b"".join(record))
    loaded = datasets.load("cifar10", "test")
    assert np.array_equal(loaded.images, pictures) and loaded.labels.tolist() == [0, 1]
    for damaged in (b"".join(record)[:-1], b""):
        (folder / "test_batch.bin").write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            datasets.load("cifar10", "test")


def test_a_folder_of_data_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="IMAGEGEN_DATA: there is no folder .*nothing"):
        datasets.photo("cat")


def test_a_download_that_fails_names_the_sets_that_need_none(monkeypatch):
    monkeypatch.delenv("IMAGEGEN_DATA", raising=False)
    import keras

    def no_network():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", no_network)
    with pytest.raises(ConnectionError, match="photos, digits, letters"):
        datasets.load("mnist")


def picture_folder(path, classes=("cats", "dogs"), each=10):
    rng = np.random.default_rng(0)
    for name in classes:
        (path / name / "deeper").mkdir(parents=True)
        for number in range(each):
            size = (5 + number, 7, (1, 3, 4)[number % 3])
            images.write(path / name / "deeper" / f"{number}.png", rng.random(size))
    return f"folder:{path}"


def test_a_folder_is_read_with_its_classes_and_split_by_the_seed(tmp_path):
    name = picture_folder(tmp_path)
    train, test = datasets.load(name), datasets.load(name, "test")
    assert len(train.images) == 18 and len(test.images) == 2
    assert train.class_names == ("cats", "dogs") and set(train.labels) == {0, 1}
    assert all(one.shape[2] == 3 for one in train.images)
    content = [{one.tobytes() for one in split.images} for split in (train, test)]
    assert not content[0] & content[1]
    again = datasets.load(name, "test")
    assert all(map(np.array_equal, again.images, test.images))
    others = [datasets.load(name, "test", seed=seed) for seed in range(1, 6)]
    assert any({one.tobytes() for one in other.images} != content[1] for other in others)


def test_a_picture_that_cannot_be_read_is_named_and_skipped(tmp_path, capsys):
    name = picture_folder(tmp_path, classes=("only",), each=4)
    (tmp_path / "only" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "only" / "notes.txt").write_text("not looked at")
    loaded = [len(datasets.load(name, split).images) for split in ("train", "test")]
    assert sum(loaded) == 4 and datasets.load(name).labels is None
    said = capsys.readouterr().out
    assert "broken.png" in said and "no pictures, such as notes.txt" in said


def test_every_kind_of_picture_is_read_whatever_its_ending(tmp_path, capsys):
    endings = ".jfif .jpe .ppm .pgm .tga .jp2 .ico .avif .TIF .webp".split()
    for ending in ["", *endings]:
        picture = Image.new("L" if ending == ".pgm" else "RGB", (16, 16), "white")
        kind = {".TIF": "TIFF", "": "PNG"}.get(ending)
        picture.save(tmp_path / f"a{ending}", kind or Image.registered_extensions()[ending])
    (tmp_path / "README").write_text("no picture")
    loaded = [datasets.load(f"folder:{tmp_path}", split).images for split in ("train", "test")]
    assert sum(map(len, loaded)) == 11
    assert all((picture >= 250).all() for pictures in loaded for picture in pictures)
    assert "1 files that are no pictures, such as README" in capsys.readouterr().out


def test_links_are_followed_and_may_lead_back(tmp_path):
    picture_folder(tmp_path / "real", classes=("cats",))
    (tmp_path / "pets").mkdir()
    picture_folder(tmp_path / "pets", classes=("dogs",))
    (tmp_path / "pets" / "cats").symlink_to(tmp_path / "real" / "cats")
    (tmp_path / "pets" / "dogs" / "back").symlink_to(tmp_path / "pets")
    train = datasets.load(f"folder:{tmp_path}/pets")
    assert train.class_names == ("cats", "dogs") and len(train.images) == 18


@pytest.mark.parametrize("test", ["test", "Val", "validation"])
def test_a_split_that_folders_give_is_taken(tmp_path, test):
    picture_folder(tmp_path / "Train", each=6)
    picture_folder(tmp_path / test, each=3)
    for split, count in (("train", 12), ("test", 6)):
        dataset = datasets.load(f"folder:{tmp_path}", split)
        assert dataset.class_names == ("cats", "dogs")
        assert np.bincount(dataset.labels).tolist() == [count // 2] * 2


@pytest.mark.parametrize(("stored", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_with_accents_are_found_in_both_spellings(tmp_path, monkeypatch, stored, asked):
    asked_form = asked
    here, asked = (unicodedata.normalize(form, "Käse") for form in (stored, asked))
    tmp_path = tmp_path / unicodedata.normalize(asked_form, "Größe")  # not as the file's name is
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path))
    for folder in ("photos", "images", here):
        (tmp_path / folder).mkdir(parents=True)
        images.write(tmp_path / folder / f"{here}.png", np.zeros((4, 5, 3)))
    (tmp_path / "captions.txt").write_text(f"image,caption\n{asked}.png,cheese\n", "utf-8")
    assert datasets.photo(asked).shape == (4, 5, 1)
    assert len(datasets.load(f"folder:{asked}").images) == 1
    assert datasets.load(f"captions:{tmp_path}").captions == (("cheese",),)


def test_many_large_pictures_are_kept_smaller_and_alike(tmp_path, monkeypatch, capsys):
    slope = np.linspace(0, 1, 400, dtype=np.float32)[:, None, None] * np.ones((1, 300, 3))
    for number in range(4):
        images.write(tmp_path / f"{number}.{('jpg', 'png')[number % 2]}", slope.astype(np.float32))
    whole = datasets.square(datasets.load(f"folder:{tmp_path}"), 16)
    monkeypatch.setattr(files, "MOST_BYTES", 3 * 3 * 10_000)
    dataset = datasets.load(f"folder:{tmp_path}")
    assert "3 of 3 pictures are made smaller" in capsys.readouterr().out
    assert all(8_000 < picture.size / 3 <= 10_000 for picture in dataset.images)
    small = datasets.square(dataset, 16)
    assert np.abs(small.images.astype(int) - whole.images).max() <= 4


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no picture"):
        datasets.load(f"folder:{tmp_path}")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        datasets.load(f"folder:{tmp_path}/nowhere")


def test_a_relative_folder_is_looked_for_in_imagegen_data_first(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path))
    picture_folder(tmp_path / "pets")
    assert len(datasets.load("folder:pets").images) == 18


def grey(count=10, size=4):
    """A set whose picture number n is n everywhere."""
    pictures = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, size, size, 1), np.uint8
    )
    return datasets.Dataset("numbers", "train", pictures, np.arange(count) * 10)


def numbers(batches, count):
    """The numbers of the pictures in the first batches."""
    return [batch[:, 0, 0, 0].tolist() for batch in batches.take(count).as_numpy_iterator()]


def test_batches_are_bytes_in_an_order_that_seed_and_epoch_decide():
    data = datasets.batches(grey(), 3, seed=1)
    assert data.element_spec.dtype.name == "uint8"
    assert data.element_spec.shape == (3, 4, 4, 1)
    first = numbers(data, 9)  # three epochs of three batches; one picture is left out of each
    assert first == numbers(datasets.batches(grey(), 3, seed=1), 9)
    assert first != numbers(datasets.batches(grey(), 3, seed=2), 9)
    epochs = [sum(first[start : start + 3], []) for start in (0, 3, 6)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert numbers(data.skip(5), 4) == first[5:]  # what resumption rests on


def test_batches_of_one_epoch_keep_the_stored_order():
    data = datasets.batches(grey(), 4, repeat=False)
    assert numbers(data, 99) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_batches_carry_their_labels():
    for pictures, labels in datasets.batches(grey(), 5, labels=True).take(4).as_numpy_iterator():
        assert (pictures[:, 0, 0, 0] * 10 == labels).all()
        assert labels.dtype == np.int64


def test_rows_of_words_travel_beside_their_pictures():
    data = grey()  # each picture's number is its brightness
    rows = np.arange(len(data.images) * 6, dtype=np.int32).reshape(-1, 2, 3)
    worded = replace(data, labels=rows)
    for pictures, found in datasets.batches(worded, 5, labels=True).take(3).as_numpy_iterator():
        assert found.shape == (5, 2, 3) and found.dtype == np.int32
        assert np.array_equal(found, rows[pictures[:, 0, 0, 0]])


def test_workers_share_each_global_batch(monkeypatch):
    whole = numbers(datasets.batches(grey(), 4, seed=3), 5)
    halves = []
    for index in range(2):
        monkeypatch.setattr(datasets.runtime, "worker", lambda index=index: (index, 2))
        halves.append(numbers(datasets.batches(grey(), 4, seed=3), 5))
    assert [a + b for a, b in zip(*halves, strict=True)] == whole
    with pytest.raises(ValueError, match="2 machines cannot share 5"):
        datasets.batches(grey(), 5)


def test_arrays_of_any_kind_travel_together():
    order = [
        number for batch in numbers(datasets.batches(grey(), 3, seed=1), 4) for number in batch
    ]
    latents = np.arange(20, dtype=np.float16).reshape(10, 2)
    data = datasets.batches({"latents": latents, "number": np.arange(10)}, 3, seed=1)
    found = list(data.take(4).as_numpy_iterator())
    assert np.concatenate([batch["number"] for batch in found]).tolist() == order
    assert np.array_equal(np.concatenate([batch["latents"] for batch in found]), latents[order])
    with pytest.raises(ValueError, match=r"expected arrays of one length, got \[9, 10\]"):
        datasets.batches((latents, latents[:9]), 3)


def test_batches_need_labels_one_size_and_enough_pictures():
    for size in (0, 11):
        with pytest.raises(ValueError, match=f"expected 1 to 10, got {size}"):
            datasets.batches(grey(), size)
    pictures = (np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8))
    mixed = datasets.Dataset("mixed", "train", pictures)
    with pytest.raises(ValueError, match="several sizes: use datasets.square first"):
        datasets.batches(mixed, 1)
    with pytest.raises(ValueError, match="mixed has no labels"):
        datasets.batches(datasets.square(mixed, 4), 1, labels=True)


def test_square_cuts_out_the_middle_and_resizes():
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 200
    tall = np.full((9, 3, 3), 100, np.uint8)
    data = datasets.square(datasets.Dataset("mixed", "test", (wide, tall)), 2)
    assert data.images.shape == (2, 2, 2, 3) and data.images.dtype == np.uint8
    assert (data.images[0] == 200).all() and (data.images[1] == 100).all()
    assert (data.name, data.split) == ("mixed", "test")


def test_square_changes_channels_and_leaves_what_fits():
    data = grey()
    assert datasets.square(data, 4) is data
    colour = datasets.square(data, 4, 3)
    assert colour.images.shape == (10, 4, 4, 3)
    assert (colour.images == data.images).all()
    assert (datasets.square(colour, 4, 1).images == data.images).all()
    assert (colour.labels == data.labels).all()


def test_square_shows_transparency_over_white():
    clear = np.zeros((1, 4, 4, 4), np.uint8)
    clear[:, :2, :, 3] = 255
    for channels in (1, 3):
        data = datasets.square(datasets.Dataset("clear", "train", clear), 4, channels)
        assert (data.images[:, :2] == 0).all() and (data.images[:, 2:] == 255).all()


def test_a_data_set_holds_images_of_three_axes():
    for wrong in (np.zeros((3, 4, 4), np.uint8), (np.zeros((4, 4), np.uint8),)):
        with pytest.raises(ValueError, match=r"expected \(height, width, channels\)"):
            datasets.Dataset("flat", "train", wrong)
    with pytest.raises(TypeError, match="got no image"):
        datasets.Dataset("none", "train", ())


@pytest.mark.parametrize(("size", "channels"), [(0, 1), (4, 2), (4, 4)])
def test_square_refuses(size, channels):
    with pytest.raises(ValueError, match="expected size >= 1 and 1 or 3 channels"):
        datasets.square(grey(), size, channels)


def test_scenes_are_a_data_set_with_all_their_captions(monkeypatch):
    # Chapter 09 draws them all.
    counts = {split: count for split, (count, _) in datasets.SCENES.items()}
    assert counts == {"train": 20_000, "test": 2_000}
    fewer = {split: (300, seed) for split, (_, seed) in datasets.SCENES.items()}
    monkeypatch.setattr(datasets, "SCENES", fewer)
    datasets._scenes.cache_clear()
    train, test = (datasets.load("scenes", split) for split in ("train", "test"))
    datasets._scenes.cache_clear()
    assert train.images.shape == test.images.shape == (300, 32, 32, 3)
    assert not np.array_equal(train.images, test.images)
    for texts in test.captions[:200]:
        assert len(set(texts)) == len(texts) >= 4
        for text in texts:
            named = captions.read(text).objects
            assert not {(entry["colour"], entry["shape"]) for entry in named} & scenes.UNSEEN


def captioned(folder, table, name="captions.txt"):
    """Write a folder of ten pictures, each of one grey, and a table of captions."""
    pictures = folder / ("images" if name == "captions.txt" else "png")
    pictures.mkdir(parents=True)
    for number in range(10):
        grey = np.full((4, 5 + number % 2, 3), number / 20, np.float32)
        images.write(pictures / f"{number}.png", grey)
    (folder / name).write_bytes(table.encode())
    return f"captions:{folder}"


def both(name):
    """Give all pictures' greys with their captions."""
    found = {}
    for split, count in (("train", 8), ("test", 2)):
        dataset = datasets.load(name, split)
        assert len(dataset.images) == len(dataset.captions) == count
        found |= {
            round(20 * one.mean() / 255): texts
            for one, texts in zip(dataset.images, dataset.captions, strict=True)
        }
    return found


def test_captions_go_with_their_pictures(tmp_path):
    rows = [f"{number}.png,picture {number}" for number in range(10)]
    rows += ['3.png,"again, with a comma"']
    found = both(captioned(tmp_path, "\r\n".join(["image,caption", *rows, ""])))
    assert found[3] == ("picture 3", "again, with a comma")
    assert all(found[number] == (f"picture {number}",) for number in set(range(10)) - {3})


def test_a_table_of_names_is_read_too(tmp_path):
    rows = [f'{number}.png,"face, {number}",smileys' for number in range(10)]
    found = both(captioned(tmp_path, "\n".join(["file,name,group", *rows]), "captions.csv"))
    assert found[7] == ("face, 7",)


def test_broken_rows_are_named_and_left_out(tmp_path, capsys):
    rows = [f"{number}.png,picture {number}" for number in range(10)]
    broken = ["4.png", '5.png,"never closed', "gone.png,no such picture", ",no name", ""]
    rows += ['6.png,"A dog sits.', 'It is brown, too."', f"7.png,{'long ' * 30_000}"]
    name = captioned(tmp_path, "\n".join(["image,caption", *broken, *rows]))
    found = both(name)
    assert found[6] == ("picture 6", "A dog sits.\nIt is brown, too.")
    assert all(found[number] == (f"picture {number}",) for number in set(range(10)) - {5, 6})
    said = capsys.readouterr().out
    assert "line 2" in said
    assert "line 5" in said
    assert "gone.png" in said


def test_captions_that_cannot_be_had_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="captions.txt or captions.csv"):
        datasets.load(f"captions:{tmp_path}")
    name = captioned(tmp_path / "a", "picture;text\n")
    with pytest.raises(ValueError, match="expected columns image and caption"):
        datasets.load(name)
    name = captioned(tmp_path / "b", "image,caption\nnone.png,nothing\n")
    with pytest.raises(ValueError, match="no captioned picture"):
        datasets.load(name, "test")


@needs_shared
def test_real_captions():
    flickr = datasets.load(f"captions:{SHARED / 'flickr8k'}", "test")
    assert len(flickr.images) == 200
    assert {len(texts) for texts in flickr.captions} == {5}
