"""editing: shapes, ranges, identities, and what each fill promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import restoration

from imagegen_tf import compositing, datasets, editing, images, metrics, noise

settings.register_profile("course", deadline=None, max_examples=60)
settings.load_profile("course")
values = st.floats(0, 1, width=32)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3, 4]))
pictures = hnp.arrays(np.float32, shapes, elements=values)
PHOTO = datasets.photo("chelsea")[40:168, 100:260]


def kept(result, image, shape=None):
    """Check what every function promises, and that its input was left alone."""
    assert result.dtype == image.dtype
    assert result.shape == (image.shape if shape is None else shape)
    assert result.min() >= 0 and result.max() <= 1
    assert not np.shares_memory(result, image)


def hole(image, top=50, left=60, height=24, width=30):
    mask = np.zeros(image.shape[:2], bool)
    mask[top : top + height, left : left + width] = True
    return mask


@given(pictures, st.data())
def test_crop_gives_the_pixels_of_the_rectangle(image, data):
    top = data.draw(st.integers(0, image.shape[0] - 1))
    left = data.draw(st.integers(0, image.shape[1] - 1))
    height = data.draw(st.integers(1, image.shape[0] - top))
    width = data.draw(st.integers(1, image.shape[1] - left))
    part = editing.crop(image, np.uint8(top), left, np.uint8(height), width)
    kept(part, image, (height, width, image.shape[2]))
    assert np.array_equal(part, image[top : top + height, left : left + width])


def test_crop_refuses_rectangles_outside():
    image = np.zeros((300, 5, 3))
    for box in [(-1, 0, 2, 2), (0, 0, 0, 2), (0, 0, 301, 2), (3, 3, 2, 3)]:
        with pytest.raises(ValueError, match="rectangle"):
            editing.crop(image, *box)
    with pytest.raises(TypeError, match="whole"):
        editing.crop(image, 0.5, 0, 2, 2)
    assert editing.crop(image, np.uint8(200), 0, np.uint8(100), 5).shape == (100, 5, 3)


@given(pictures)
def test_flipping_twice_gives_the_image_back(image):
    for axis in ("horizontal", "vertical"):
        once = editing.flip(image, axis)
        kept(once, image)
        assert np.array_equal(editing.flip(once, axis), image)
    assert np.array_equal(editing.flip(image, "horizontal")[:, 0], image[:, -1])


@given(pictures, st.integers(-8, 8))
def test_quarter_turns_are_exact(image, turns):
    turned = editing.rotate(image, 90 * turns, expand=True)
    assert np.array_equal(turned, np.rot90(image, turns))
    kept(turned, image, turned.shape)
    square = image[: min(image.shape[:2]), : min(image.shape[:2])]
    assert np.array_equal(editing.rotate(square, 90 * turns), np.rot90(square, turns))


def test_an_oblong_turned_by_90_degrees_keeps_its_size_and_centre():
    image = np.random.default_rng(0).random((6, 10, 3), dtype=np.float32)
    turned = editing.rotate(image, 90)
    assert turned.shape == image.shape
    assert np.array_equal(turned[:, 2:8], np.rot90(image)[2:8])
    assert turned[:, :2].max() == turned[:, 8:].max() == 0


@given(pictures, st.floats(-400, 400), st.booleans(), st.sampled_from([*editing.ROTATE_ORDERS]))
def test_rotate_keeps_range_type_and_size(image, degrees, expand, method):
    turned = editing.rotate(image, degrees, expand, method=method)
    kept(turned, image, turned.shape if expand else None)
    # An enlarged canvas never loses a side by more than rounding.
    assert not expand or max(turned.shape[:2]) <= np.hypot(*image.shape[:2]) + 2


def test_rotate_goes_counter_clockwise_and_back():
    image = np.zeros((31, 31, 1), np.float32)
    image[15, 25] = 1  # to the right of the centre
    assert editing.rotate(image, 90)[5, 15] == 1  # above it
    slightly = editing.rotate(image, 30, method="bilinear")[:, :, 0]
    row, column = np.unravel_index(slightly.argmax(), slightly.shape)
    assert (row, column) == (10, 24)  # 15 - 10 sin 30, 15 + 10 cos 30
    back = editing.rotate(editing.rotate(PHOTO, 20), -20)
    assert metrics.psnr(back[40:90, 50:110], PHOTO[40:90, 50:110]) > 35


def test_bicubic_overshoots_a_step_whether_it_is_resized_or_turned():
    # Keys' kernel overshoots a step of height h by at most 0.0741 h beside a straight edge.
    step = np.where(np.arange(32)[None, :, None] < 16, 0.25, 0.75) * np.ones((32, 1, 1))
    inner = (slice(8, 24), slice(8, 24))
    assert 0.77 < editing.rotate(step, 10)[inner].max() < 0.83
    assert 0.77 < editing.scale(step, 3).max() < 0.79
    assert editing.rotate(step, 10, method="bilinear")[inner].max() <= 0.75 + 1e-9


def test_invisible_colours_do_not_bleed_and_colours_do_not_ring_at_the_edge_of_alpha():
    image = np.zeros((24, 24, 4), np.float32)
    image[:, :12] = (1, 0, 0, 1)  # opaque red beside transparent green
    image[:, 12:] = (0, 1, 0, 0)
    square = np.zeros((24, 24, 4), np.float32)
    square[:, :, :3] = (0.6, 0.3, 0.8)
    square[6:18, 6:18, 3] = 1
    for change in (lambda i: editing.scale(i, 4), lambda i: editing.rotate(i, 17)):
        assert change(image)[:, :, 1].max() < 1e-6
        seen = change(square)[change(square)[:, :, 3] > 0.01]
        np.testing.assert_allclose(seen[:, :3], [[0.6, 0.3, 0.8]] * len(seen), atol=1e-4)


@given(pictures, st.floats(0.05, 5))
def test_scale_multiplies_the_size(image, factor):
    scaled = editing.scale(image, factor)
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    kept(scaled, image, (height, width, image.shape[2]))


@given(shapes, values)
def test_a_constant_image_stays_constant(shape, value):
    image = np.full(shape, value, np.float32)
    image[:, :, 3:] = 1
    mask = hole(image, 0, 0, 1, shape[0] * shape[1] > 1)
    fills = [editing.fill(image, mask, m) for m in ("constant", "nearest", "pull-push")]
    for changed in (editing.scale(image, 1.7), *fills):
        np.testing.assert_allclose(changed[:, :, :3], value, atol=1e-5)


@given(pictures, st.data())
def test_erase_wipes_only_under_the_mask(image, data):
    mask = data.draw(hnp.arrays(bool, image.shape[:2]))
    erased = editing.erase(image, mask)
    kept(erased, image)
    assert np.array_equal(erased[~mask], image[~mask])
    assert (erased[mask][:, 3 * (image.shape[2] == 4) :] == 0).all()
    soft = editing.erase(np.ones((1, 3, 1)), np.array([[0, 0.25, 1]]), value=0.5)
    assert soft[0, :, 0].tolist() == [1, 0.875, 0.5]


@given(pictures, st.data(), st.sampled_from(["constant", "nearest", "pull-push", "biharmonic"]))
@settings(max_examples=40)
def test_fill_keeps_known_pixels_bit_for_bit_and_looks_at_no_other(image, data, method):
    mask = data.draw(hnp.arrays(bool, image.shape[:2]))
    if mask.all():
        with pytest.raises(ValueError, match="whole image"):
            editing.fill(image, mask, method)
        return
    filled = editing.fill(image, mask, method)
    kept(filled, image)
    assert np.array_equal(filled[~mask], image[~mask])
    other = image.copy()
    other[mask] = 1 - other[mask]
    assert np.array_equal(editing.fill(other, mask, method)[mask], filled[mask])


def test_fill_constant_is_the_mean_of_the_known_pixels():
    filled = editing.fill(PHOTO, hole(PHOTO), "constant")[hole(PHOTO)]
    np.testing.assert_allclose(filled[0], PHOTO[~hole(PHOTO)].mean(axis=0), atol=1e-5)
    image = np.full((3000, 2000, 1), 0.9, np.float32)  # summed in float32 the mean drifts to 0.95
    mask = hole(image, 10, 10, 1, 1)
    assert editing.fill(image, mask, "constant")[10, 10, 0] == pytest.approx(0.9, abs=1e-6)


def test_fill_nearest_takes_the_nearest_pixel():
    image = np.linspace(0, 1, 7, dtype=np.float32)[None, :, None]
    mask = np.array([[0, 1, 1, 0, 1, 1, 0]], bool)
    expected = image[0, [0, 0, 3, 3, 3, 6, 6], 0]
    assert np.array_equal(editing.fill(image, mask, "nearest")[0, :, 0], expected)


def test_fill_biharmonic_is_scikit_images():
    mask = hole(PHOTO, height=8, width=9)
    expected = restoration.inpaint_biharmonic(PHOTO, mask, channel_axis=2).clip(0, 1)
    np.testing.assert_allclose(editing.fill(PHOTO, mask, "biharmonic"), expected, atol=1e-6)


def test_smooth_fills_beat_the_mean_on_a_smooth_image():
    y, x = np.mgrid[0:64, 0:80].astype(np.float32) / 80
    image = np.stack([0.2 + 0.5 * x, 0.1 + 0.6 * y, 0.5 + 0.2 * np.sin(5 * x)], 2)
    mask = hole(image, 20, 25, 20, 25)
    constant, pull_push, biharmonic = (
        np.abs(editing.fill(image, mask, method) - image)[mask].mean()
        for method in ("constant", "pull-push", "biharmonic")
    )
    assert biharmonic < pull_push < 0.3 * constant


def test_patch_fill_continues_a_texture_that_smooth_fills_cannot():
    y, x = np.mgrid[0:72, 0:72]
    checks = ((x // 4 + y // 4) % 2).astype(np.float32)[:, :, None]
    mask = hole(checks, 28, 30, 14, 15)
    assert np.abs(editing.fill(checks, mask, "patch") - checks)[mask].mean() < 0.02
    assert np.abs(editing.fill(checks, mask, "biharmonic") - checks)[mask].mean() > 0.3


def test_patch_fill_reaches_corners_and_far_sources():
    wide = np.tile(datasets.photo("gravel")[:100, :100], (4, 4, 1))
    far = hole(wide, 100, 100, 100, 100)  # the nearest source patch is farther than usual
    for image, mask in ((PHOTO, hole(PHOTO, 0, 0, 12, 15)), (wide, far)):
        filled = editing.fill(image, mask, "patch")
        assert np.array_equal(filled[~mask], image[~mask])
        assert filled[mask].std() > 0.3 * image[~mask].std()
    with pytest.raises(ValueError, match="9 x 9"):
        editing.fill(PHOTO[:8, :8], hole(PHOTO[:8, :8], 2, 2, 2, 2), "patch")


def test_fill_without_a_hole_is_a_copy():
    for method in editing.FILL_METHODS:
        filled = editing.fill(PHOTO, np.zeros(PHOTO.shape[:2], bool), method)
        kept(filled, PHOTO)
        assert np.array_equal(filled, PHOTO)


def test_input_that_makes_no_sense_is_refused_in_words():
    for call, words in [
        (lambda i: editing.rotate(i, np.nan), "degrees"),
        (lambda i: editing.rotate(i, 10, method="cubic"), "method"),
        (lambda i: editing.scale(i, 0), "factor"),
        (lambda i: editing.scale(i, np.inf), "factor"),
        (lambda i: editing.flip(i, "diagonal"), "axis"),
        (lambda i: editing.erase(i, np.zeros((3, 4))), "mask"),
        (lambda i: editing.erase(i, np.full((4, 4), 2.0)), "mask"),
        (lambda i: editing.erase(i, np.zeros((4, 4)), value=3), "value"),
        (lambda i: editing.fill(i, np.zeros((3, 4))), "mask"),
        (lambda i: editing.fill(i, np.full((4, 4), 0.5)), "mask"),
        (lambda i: editing.fill(i, np.ones((4, 4))), "mask"),
        (lambda i: editing.fill(i, np.zeros((4, 4)), "magic"), "method"),
        (lambda i: editing.fill(i[:0], np.zeros((0, 4))), "no pixel"),
        (lambda i: editing.crop(i[..., :2], 0, 0, 1, 1), "shape"),
        (lambda i: editing.rotate(i[..., :2], 10), "shape"),
        (lambda i: editing.scale(i[..., :2], 2), "shape"),
        (lambda i: editing.flip(i[..., :2], "horizontal"), "shape"),
        (lambda i: editing.erase(i[..., :2], np.zeros((4, 4))), "shape"),
        (lambda i: editing.fill(np.dstack([i, i[..., :2]]), np.zeros((4, 4))), "shape"),
    ]:
        with pytest.raises(ValueError, match=words):
            call(np.zeros((4, 4, 3), np.float32))


CALLS = {
    "crop": lambda image, mask: editing.crop(image, 1, 2, 8, 9),
    "flip": lambda image, mask: editing.flip(image, "vertical"),
    "scale": lambda image, mask: editing.scale(image, 0.5),
    "rotate": lambda image, mask: editing.rotate(image, 30),
    "erase": editing.erase,
    "fill": editing.fill,
    "mix": lambda image, mask: compositing.mix(image, image[::-1], mask),
    "over": lambda image, mask: compositing.over(image, image[::-1]),
    "blend": lambda image, mask: compositing.blend(image, image[::-1], "hue"),
    "by_depth": lambda image, mask: compositing.by_depth([image, image], [mask, 1 - mask]),
    "pyramid_blend": lambda image, mask: compositing.pyramid_blend(image, image[::-1], mask),
    "poisson_blend": lambda image, mask: compositing.poisson_blend(image, image[::-1], mask),
    "gaussian": lambda image, mask: noise.gaussian(image, 0.1, rng=0),
    "salt_and_pepper": lambda image, mask: noise.salt_and_pepper(image, 0.1, rng=0),
    "resize": lambda image, mask: images.resize(image, 7, 9),
    "luma": lambda image, mask: images.luma(image),
}


def test_read_only_and_strided_images_work_and_stay_as_they_were():
    for name in CALLS:
        image, mask = PHOTO[:40, :40].copy(), np.zeros((40, 40), np.float32)
        mask[12:20, 9:20] = 1
        expected, before = CALLS[name](image, mask), image.copy()
        assert np.array_equal(image, before)
        for array in (image, mask):
            array.flags.writeable = False
        for layout in (image, np.asfortranarray(image), np.repeat(image, 2, axis=0)[::2]):
            layout.flags.writeable = False
            assert np.array_equal(CALLS[name](layout, mask), expected)
        double = CALLS[name](image.astype(np.float64), mask.astype(np.float64))
        assert name == "by_depth" or double.dtype == np.float64
