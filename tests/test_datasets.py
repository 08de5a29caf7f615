"""datasets: photos, drawn and classic sets, one's own folders and captions, squares, batches."""

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


def test_photos_are_scikit_images_own_with_their_channels():
    assert len(datasets.photo_names()) == 20
    for name in datasets.photo_names():
        images.check(datasets.photo(name), name, channels=(1, 3))
    for name in ("astronaut", "camera", "coins", "retina"):
        theirs = images.to_float(getattr(skimage.data, name)())
        np.testing.assert_allclose(datasets.photo(name), theirs, atol=1e-6)


def test_the_halves_share_nothing_and_pairs_stay_together():
    train, test = (datasets.load("photos", split) for split in ("train", "test"))
    assert not set(train.class_names) & set(test.class_names)
    pairs = {"motorcycle_left", "motorcycle_right", "retina", "microaneurysms"}
    assert pairs <= set(train.class_names)
    for photos in (train, test):
        assert len(photos.images) == len(photos.class_names) and "licence" in photos.card
        assert all(picture.dtype == np.uint8 for picture in photos.images)


def test_ones_own_photo_comes_first_whatever_its_ending(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path))
    (tmp_path / "photos").mkdir()
    for file in ("mine.webp", "astronaut.png"):
        Image.new("RGB", (5, 4), "red").save(tmp_path / "photos" / file, lossless=True)
    for name in ("mine", "astronaut"):
        assert name in datasets.photo_names()
        assert np.array_equal(datasets.photo(name), [[[1, 0, 0]] * 5] * 4)
    assert datasets.photo("coffee").shape == (400, 600, 3)
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="IMAGEGEN_DATA: there is no folder .*nothing"):
        datasets.photo("cat")


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
    assert moved < 0.4 * np.abs(left - right).mean()


def test_unknown_names_are_refused_with_the_known_ones():
    for call, words in [
        (lambda: datasets.photo("lena"), "astronaut"),
        (lambda: datasets.load("imagenet"), "photos"),
        (lambda: datasets.load("photos", "validation"), "split"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


PICTURES = np.zeros((2, 1, 1, 1), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((PICTURES, [1]), ValueError, "labels: got 1 for 2 images"),
        ((PICTURES, np.array([0, 2]), None, ("a", "b")), ValueError, "got 2 for classes 0 to 1"),
        ((PICTURES, np.array([0.5, 1])), TypeError, "labels: expected whole numbers"),
        ((PICTURES / 255,), TypeError, "uint8"),
        (((),), TypeError, "got no image"),
        ((PICTURES[..., 0],), ValueError, r"expected \(height, width, channels\)"),
        (((PICTURES[0, ..., 0],),), ValueError, r"expected \(height, width, channels\)"),
    ],
)
def test_a_data_set_checks_itself(arguments, error, words):
    with pytest.raises(error, match=words):
        datasets.Dataset("wrong", "train", *arguments)


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
    path.write_bytes(gzip.compress(header + values.tobytes()))


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
    write_idx(folder / "t10k-images-idx3-ubyte.gz", pictures[:0])
    with pytest.raises(ValueError, match="holds no picture"):
        datasets.load("mnist", "test")
    for damage in (path.read_bytes()[:-20], b"no gzip at all", gzip.compress(b"too short")):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=r"train-images.* is damaged"):
            datasets.load("mnist")


def test_cifar10_is_read_from_its_binary_version(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path))
    (tmp_path / "cifar10").mkdir()
    path = tmp_path / "cifar10" / "test_batch.bin"
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    # One byte of label, then all red, all green, all blue values, row by row.
    planes = pictures.transpose(0, 3, 1, 2)
    record = b"".join(bytes([label]) + plane.tobytes() for label, plane in enumerate(planes))
    path.write_bytes(record)
    loaded = datasets.load("cifar10", "test")
    assert np.array_equal(loaded.images, pictures) and loaded.labels.tolist() == [0, 1]
    for damaged in (record[:-1], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            datasets.load("cifar10", "test")


def test_a_download_that_fails_names_the_sets_that_need_none(monkeypatch):
    monkeypatch.delenv("IMAGEGEN_DATA", raising=False)
    import keras

    def no_network():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", no_network)
    with pytest.raises(ConnectionError, match="photos, digits, letters"):
        datasets.load("mnist")


def picture_folder(path, classes=("cats", "dogs"), each=10):
    """Write small noise pictures of several sizes and modes; give the data set's name."""
    rng = np.random.default_rng(0)
    for name in classes:
        (path / name / "deeper").mkdir(parents=True)
        for number in range(each):
            size = (5 + number, 7, (1, 3, 4)[number % 3])
            images.write(path / name / "deeper" / f"{number}.png", rng.random(size))
    return f"folder:{path}"


def halves(name, **options):
    """Load both splits."""
    return [datasets.load(name, split, **options) for split in ("train", "test")]


def test_a_folder_is_read_with_its_classes_and_split_by_the_seed(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_DATA", str(tmp_path))  # where a relative path may start
    picture_folder(tmp_path / "pets")
    contents = {}
    for seed in (0, 0, 1, 2, 3, -1, 2**70):  # any whole number
        train, test = halves("folder:pets", seed=seed)
        assert len(train.images) == 18 and len(test.images) == 2
        assert train.class_names == test.class_names == ("cats", "dogs")
        assert set(train.labels) == {0, 1} and train.images[0].shape[2] == 3
        content = [frozenset(one.tobytes() for one in half.images) for half in (train, test)]
        assert not content[0] & content[1]
        assert contents.setdefault(seed, content) == content
    assert len({test for _, test in contents.values()}) > 1
    with pytest.raises(TypeError, match="float"):
        datasets.load("folder:pets", seed=0.5)


def test_every_kind_of_picture_is_read_and_what_is_skipped_is_named(tmp_path, capsys):
    endings = ".jfif .jpe .ppm .pgm .tga .jp2 .ico .avif .TIF .webp".split()
    for ending in ["", ".orig", *endings]:
        picture = Image.new("L" if ending == ".pgm" else "RGB", (16, 16), "white")
        kind = {".TIF": "TIFF", "": "PNG", ".orig": "JPEG"}.get(ending)
        picture.save(tmp_path / f"a{ending}", kind or Image.registered_extensions()[ending])
    for number in range(100):
        (tmp_path / f"odd{number}").write_text("no picture")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / ".hidden.png").write_bytes(b"no picture")
    train, test = halves(f"folder:{tmp_path}")
    assert len(train.images) + len(test.images) == 12 and train.labels is None
    assert all((picture >= 250).all() for half in (train, test) for picture in half.images)
    said = capsys.readouterr().out
    assert all(text in said for text in ("odd0 is no picture", "broken.png", "90 more"))
    assert len(said.splitlines()) < 30 and "hidden" not in said


def test_links_are_followed_and_may_lead_back(tmp_path):
    picture_folder(tmp_path / "real", classes=("cats",))
    picture_folder(tmp_path / "pets", classes=("dogs",))
    for name in ("cats", "kittens"):  # one folder under two names
        (tmp_path / "pets" / name).symlink_to(tmp_path / "real" / "cats")
    (tmp_path / "pets" / "dogs" / "back").symlink_to(tmp_path / "pets")
    train, test = halves(f"folder:{tmp_path}/pets")
    assert train.class_names == ("cats", "dogs", "kittens")
    assert len(train.images) + len(test.images) == 30


@pytest.mark.parametrize(
    "layout", ["Train/{}:test/{}", "train/{}:Val/{}", "{}/train:{}/validation"]
)
def test_a_split_that_folders_give_is_taken(tmp_path, capsys, layout):
    for place, each in zip(layout.split(":"), (6, 3), strict=True):
        picture_folder(tmp_path, [place.format(name) for name in ("cats", "dogs")], each)
    Image.new("L", (4, 4)).save(tmp_path / "overview.png")
    for half, count in zip(halves(f"folder:{tmp_path}"), (6, 3), strict=True):
        assert half.class_names == ("cats", "dogs")
        assert np.bincount(half.labels).tolist() == [count] * 2
    assert "1 pictures in neither" in capsys.readouterr().out


@pytest.mark.parametrize(("stored", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_with_accents_are_found_in_both_spellings(tmp_path, monkeypatch, stored, asked):
    tmp_path = tmp_path / unicodedata.normalize(asked, "Größe")  # not as the file's name is
    here, asked = (unicodedata.normalize(form, "Käse") for form in (stored, asked))
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
    monkeypatch.setattr(files, "MOST_BYTES", 3 * 3 * 20_000)
    dataset = datasets.load(f"folder:{tmp_path}")
    assert "made smaller, to 20,000 pixels" in capsys.readouterr().out
    assert all(18_000 < picture.size / 3 <= 20_000 for picture in dataset.images)
    small = datasets.square(dataset, 16)
    assert np.abs(small.images.astype(int) - whole.images).max() <= 4


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no picture"):
        datasets.load(f"folder:{tmp_path}")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        datasets.load(f"folder:{tmp_path}/nowhere")


GREY = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
NUMBERS = datasets.Dataset("numbers", "train", GREY, np.arange(10) * 10)  # number n is n everywhere


def numbers(batches, count):
    """The numbers of the pictures in the first batches."""
    return [batch[:, 0, 0, 0].tolist() for batch in batches.take(count).as_numpy_iterator()]


def test_batches_are_bytes_in_an_order_that_seed_and_epoch_decide():
    data = datasets.batches(NUMBERS, 3, seed=1)
    assert data.element_spec.dtype.name == "uint8"
    assert data.element_spec.shape == (3, 4, 4, 1)
    first = numbers(data, 9)  # three epochs of three batches; one picture is left out of each
    assert first == numbers(datasets.batches(NUMBERS, 3, seed=1), 9)
    for seed in (2, -1, 2**70):
        assert first != numbers(datasets.batches(NUMBERS, 3, seed=seed), 9)
    epochs = [sum(first[start : start + 3], []) for start in (0, 3, 6)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert numbers(data.skip(5), 4) == first[5:]  # what resumption rests on
    stored = numbers(datasets.batches(NUMBERS, 4, repeat=False), 99)
    assert stored == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_labels_and_rows_of_words_travel_beside_their_pictures():
    words = np.arange(60, dtype=np.int32).reshape(10, 2, 3)
    for labels in (NUMBERS.labels, words):
        data = replace(NUMBERS, labels=labels)
        for pictures, rows in datasets.batches(data, 5, labels=True).take(3).as_numpy_iterator():
            assert rows.dtype == labels.dtype
            assert np.array_equal(rows, labels[pictures[:, 0, 0, 0]])


def test_arrays_of_any_kind_travel_together():
    order = sum(numbers(datasets.batches(NUMBERS, 3, seed=1), 4), [])
    latents = np.arange(20, dtype=np.float16).reshape(10, 2)
    data = datasets.batches({"latents": latents, "number": np.arange(10)}, 3, seed=1)
    rows = list(data.take(4).as_numpy_iterator())
    assert np.concatenate([batch["number"] for batch in rows]).tolist() == order
    assert np.array_equal(np.concatenate([batch["latents"] for batch in rows]), latents[order])
    (alone,) = datasets.batches(latents, 3, seed=1).take(1).as_numpy_iterator()
    assert alone.dtype == np.float16 and np.array_equal(alone, latents[order[:3]])
    with pytest.raises(ValueError, match=r"expected arrays of one length, got \[9, 10\]"):
        datasets.batches((latents, latents[:9]), 3)


def test_workers_share_each_global_batch(monkeypatch):
    whole = numbers(datasets.batches(NUMBERS, 4, seed=3), 5)
    shares = []
    for index in range(2):
        monkeypatch.setattr(datasets.runtime, "worker", lambda index=index: (index, 2))
        shares.append(numbers(datasets.batches(NUMBERS, 4, seed=3), 5))
    assert [a + b for a, b in zip(*shares, strict=True)] == whole
    with pytest.raises(ValueError, match="2 machines cannot share 5"):
        datasets.batches(NUMBERS, 5)


def test_batches_need_labels_one_size_and_enough_pictures():
    mixed = replace(NUMBERS, labels=None, images=(np.zeros((4, 4, 3), np.uint8), GREY[0]))
    for data, size, words in [
        (NUMBERS, 0, "expected 1 to 10, got 0"),
        (NUMBERS, 11, "expected 1 to 10, got 11"),
        (mixed, 1, "several sizes: use datasets.square first"),
        (datasets.square(mixed, 4, 3), 1, "numbers has no labels"),
    ]:
        with pytest.raises(ValueError, match=words):
            datasets.batches(data, size, labels=True)


def test_square_cuts_out_the_middle_and_resizes():
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 200
    tall = np.full((9, 3, 3), 100, np.uint8)
    data = datasets.square(datasets.Dataset("mixed", "test", (wide, tall)), 2)
    assert data.images.shape == (2, 2, 2, 3) and data.images.dtype == np.uint8
    assert (data.images[0] == 200).all() and (data.images[1] == 100).all()
    assert (data.name, data.split) == ("mixed", "test")


def test_square_changes_channels_and_leaves_what_fits():
    assert datasets.square(NUMBERS, 4) is NUMBERS
    colour = datasets.square(NUMBERS, 4, 3)
    assert colour.images.shape == (10, 4, 4, 3)
    assert (colour.images == GREY).all() and (colour.labels == NUMBERS.labels).all()
    assert (datasets.square(colour, 4, 1).images == GREY).all()
    clear = np.zeros((1, 4, 4, 4), np.uint8)  # transparency is shown over white
    clear[:, :2, :, 3] = 255
    for channels in (1, 3):
        data = datasets.square(datasets.Dataset("clear", "train", clear), 4, channels)
        assert (data.images[:, :2] == 0).all() and (data.images[:, 2:] == 255).all()
    for size, channels in [(0, 1), (4, 2), (4, 4)]:
        with pytest.raises(ValueError, match="expected size >= 1 and 1 or 3 channels"):
            datasets.square(NUMBERS, size, channels)


def test_scenes_are_a_data_set_with_all_their_captions(monkeypatch):
    # Chapter 09 draws them all.
    counts = {split: count for split, (count, _) in datasets.SCENES.items()}
    assert counts == {"train": 20_000, "test": 2_000}
    fewer = {split: (300, seed) for split, (_, seed) in datasets.SCENES.items()}
    monkeypatch.setattr(datasets, "SCENES", fewer)
    datasets._scenes.cache_clear()
    train, test = halves("scenes")
    datasets._scenes.cache_clear()
    assert train.images.shape == test.images.shape == (300, 32, 32, 3)
    assert not np.array_equal(train.images, test.images)
    for texts in test.captions[:200]:
        assert len(set(texts)) == len(texts) >= 4
        for text in texts:
            named = captions.read(text).objects
            assert not {(entry["colour"], entry["shape"]) for entry in named} & scenes.UNSEEN


ROWS = [f"{number}.png,picture {number}" for number in range(10)]


def captioned(folder, rows, name="captions.txt"):
    """Write ten pictures, each of one grey, and a table; give all captions by their greys."""
    pictures = folder / ("images" if name == "captions.txt" else "png")
    pictures.mkdir(parents=True, exist_ok=True)
    for number in range(10):
        grey = np.full((4, 5 + number % 2, 3), number / 20, np.float32)
        images.write(pictures / f"{number}.png", grey)
    (folder / name).write_bytes("\r\n".join(rows).encode())
    both = halves(f"captions:{folder}")
    assert [len(half.images) for half in both] == [len(half.captions) for half in both] == [8, 2]
    pairs = [zip(half.images, half.captions, strict=True) for half in both]
    return {round(20 * one.mean() / 255): texts for pair in pairs for one, texts in pair}


def test_captions_go_with_their_pictures(tmp_path):
    again = captioned(tmp_path / "a", ["image,caption", *ROWS, '3.png,"again, with a comma"', ""])
    assert again.pop(3) == ("picture 3", "again, with a comma")
    assert again == {number: (f"picture {number}",) for number in range(10) if number != 3}
    rows = [f'{number}.png,"face, {number}",smileys' for number in range(10)]
    faces = captioned(tmp_path / "b", ["file,name,group", *rows], "captions.csv")
    assert faces[7] == ("face, 7",)


def test_captions_may_span_lines_and_broken_rows_are_named(tmp_path, capsys):
    broken = ["4.png", '5.png,"never closed', "gone.png,no such picture", ",no name", ""]
    rows = ['6.png,"A dog sits.\nIt is brown, too."', f"7.png,{'long ' * 30_000}"]
    texts = captioned(tmp_path, ["image,caption", *broken, *ROWS, *rows, '8.png,he measures 5"'])
    assert texts[6] == ("picture 6", "A dog sits.\nIt is brown, too.")
    assert texts[7] == ("picture 7", ("long " * 30_000).strip())
    assert texts[8] == ("picture 8", 'he measures 5"')
    for number in (0, 1, 2, 3, 4, 9):
        assert texts[number] == (f"picture {number}",)
    said = capsys.readouterr().out
    assert all(words in said for words in ("line 2", "line 5", "gone.png"))


def test_captions_that_cannot_be_had_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"captions\.txt or captions\.csv"):
        datasets.load(f"captions:{tmp_path}")
    with pytest.raises(ValueError, match="expected columns image and caption"):
        captioned(tmp_path, ["picture;text"])
    with pytest.raises(ValueError, match="no picture of the train split"):
        captioned(tmp_path, ["image,caption", "none.png,nothing"])


@needs_shared
def test_real_captions():
    flickr = datasets.load(f"captions:{SHARED / 'flickr8k'}", "test")
    assert len(flickr.images) == 200
    assert {len(texts) for texts in flickr.captions} == {5}
