"""compositing: W3C's formulas and published results, algebra, depth, seams."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imagegen_tf import compositing, datasets, images

SHARED = Path(__file__).parents[2] / "shared" / "data" / "compositing"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
settings.register_profile("course", deadline=None, max_examples=60)
settings.load_profile("course")
values = st.floats(0, 1, width=32)
SIZE = (3, 4)
rgba = hnp.arrays(np.float32, (*SIZE, 4), elements=values)
rgb = hnp.arrays(np.float32, (*SIZE, 3), elements=values)


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def random_rgba(seed, size=(64, 64)):
    """Random RGBA in which alpha 0, alpha 1, black and white are common."""
    rng = np.random.default_rng(seed)
    image = rng.random((*size, 4), dtype=np.float32)
    image[rng.random((*size, 4)) < 0.1] = 0
    image[rng.random((*size, 4)) < 0.1] = 1
    return image


# Section 9 of W3C Compositing and Blending Level 1: Fa and Fb of each operator.
FRACTIONS = {
    "clear": (lambda s, b: 0 * s, lambda s, b: 0 * s),
    "copy": (lambda s, b: 1 + 0 * s, lambda s, b: 0 * s),
    "destination": (lambda s, b: 0 * s, lambda s, b: 1 + 0 * s),
    "source-over": (lambda s, b: 1 + 0 * s, lambda s, b: 1 - s),
    "destination-over": (lambda s, b: 1 - b, lambda s, b: 1 + 0 * s),
    "source-in": (lambda s, b: b, lambda s, b: 0 * s),
    "destination-in": (lambda s, b: 0 * s, lambda s, b: s),
    "source-out": (lambda s, b: 1 - b, lambda s, b: 0 * s),
    "destination-out": (lambda s, b: 0 * s, lambda s, b: 1 - s),
    "source-atop": (lambda s, b: b, lambda s, b: 1 - s),
    "destination-atop": (lambda s, b: 1 - b, lambda s, b: s),
    "xor": (lambda s, b: 1 - b, lambda s, b: 1 - s),
    "plus": (lambda s, b: 1 + 0 * s, lambda s, b: 1 + 0 * s),
}


def premultiplied_formula(source, backdrop, operator):
    """co = as Fa Cs + ab Fb Cb, ao = as Fa + ab Fb, cut at 1: in float64, premultiplied."""
    source, backdrop = source.astype(np.float64), backdrop.astype(np.float64)
    source_alpha, backdrop_alpha = source[..., 3:], backdrop[..., 3:]
    fa, fb = (fraction(source_alpha, backdrop_alpha) for fraction in FRACTIONS[operator])
    colour = source_alpha * fa * source[..., :3] + backdrop_alpha * fb * backdrop[..., :3]
    alpha = source_alpha * fa + backdrop_alpha * fb
    return np.minimum(np.concatenate([colour, alpha], -1), 1)


def test_there_are_twelve_operators_and_plus():
    assert set(compositing.OPERATORS) == set(FRACTIONS) and len(compositing.OPERATORS) == 13


def test_operators_follow_the_closed_formula():
    for operator in compositing.OPERATORS:
        source, backdrop = random_rgba(0), random_rgba(1)
        result = compositing.porter_duff(source, backdrop, operator)
        expected = premultiplied_formula(source, backdrop, operator)
        assert result.dtype == np.float32
        np.testing.assert_allclose(images.premultiply(result), expected, atol=1e-6)
        assert (result[result[..., 3] == 0] == 0).all()
        images.check(result)


@needs_shared
def test_operators_match_the_web_platform_tests():
    tests = json.loads((SHARED / "expected_porter_duff.json").read_text())
    assert len(tests) == 22
    for test in tests:
        operator = {"lighter": "plus"}.get(test["op"], test["op"])
        source, backdrop = (
            np.array(test[key], np.float32)[None, None] for key in ("source_rgba", "backdrop_rgba")
        )
        result = compositing.porter_duff(source, backdrop, operator)[0, 0]
        np.testing.assert_allclose(
            result, np.array(test["expected_rgba8"]) / 255, atol=1 / 255, err_msg=test["test"]
        )


@given(rgba, rgba, rgba)
def test_over_is_associative(a, b, c):
    left = compositing.over(compositing.over(a, b), c)
    right = compositing.over(a, compositing.over(b, c))
    np.testing.assert_allclose(images.premultiply(left), images.premultiply(right), atol=1e-6)


@given(rgba, rgb)
def test_over_has_its_identities(image, opaque):
    nothing = np.zeros_like(image)
    for result in (compositing.over(image, nothing), compositing.over(nothing, image)):
        np.testing.assert_allclose(images.premultiply(result), images.premultiply(image), atol=1e-6)
    np.testing.assert_allclose(compositing.over(opaque, image)[..., :3], opaque, atol=1e-6)
    assert compositing.over(image, opaque).shape == opaque.shape


@given(rgba, rgba, st.sampled_from(compositing.OPERATORS))
def test_every_result_is_an_image(source, backdrop, operator):
    images.check(compositing.porter_duff(source, backdrop, operator))


def test_tiny_alpha_gives_neither_warning_nor_nan():
    tiny = np.full((1, 1, 4), 1e-42, np.float32)
    for operator in compositing.OPERATORS:
        images.check(compositing.porter_duff(tiny, tiny, operator))
    for mode in compositing.BLEND_MODES:
        images.check(compositing.blend(tiny, tiny, mode))


# Section 10 of W3C Compositing and Blending Level 1, pixel by pixel as it is printed there.
def printed_blend(mode, cs, cb):
    def hard_light(s, b):
        return b * 2 * s if s <= 0.5 else b + (2 * s - 1) - b * (2 * s - 1)

    def soft_light(s, b):
        d = ((16 * b - 12) * b + 4) * b if b <= 0.25 else b**0.5
        return b - (1 - 2 * s) * b * (1 - b) if s <= 0.5 else b + (2 * s - 1) * (d - b)

    def lum(c):
        return 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2]

    def clip_color(c):
        level, low, high = lum(c), min(c), max(c)
        if low < 0:
            c = [level + (x - level) * level / (level - low) for x in c]
        if high > 1:
            c = [level + (x - level) * (1 - level) / (high - level) for x in c]
        return c

    def set_lum(c, level):
        return clip_color([x + level - lum(c) for x in c])

    def sat(c):
        return max(c) - min(c)

    def set_sat(c, s):
        low, high = min(c), max(c)
        return [(x - low) * s / (high - low) if high > low else 0.0 for x in c]

    separable = {
        "normal": lambda s, b: s,
        "multiply": lambda s, b: s * b,
        "screen": lambda s, b: b + s - b * s,
        "overlay": lambda s, b: hard_light(b, s),
        "darken": min,
        "lighten": max,
        "color-dodge": lambda s, b: 0 if b == 0 else 1 if s == 1 else min(1, b / (1 - s)),
        "color-burn": lambda s, b: 1 if b == 1 else 0 if s == 0 else 1 - min(1, (1 - b) / s),
        "hard-light": hard_light,
        "soft-light": soft_light,
        "difference": lambda s, b: abs(b - s),
        "exclusion": lambda s, b: b + s - 2 * b * s,
    }
    if mode in separable:
        return [separable[mode](s, b) for s, b in zip(cs, cb, strict=True)]
    return {
        "hue": lambda: set_lum(set_sat(cs, sat(cb)), lum(cb)),
        "saturation": lambda: set_lum(set_sat(cb, sat(cs)), lum(cb)),
        "color": lambda: set_lum(cs, lum(cb)),
        "luminosity": lambda: set_lum(cb, lum(cs)),
    }[mode]()


def test_there_are_sixteen_blend_modes():
    assert len(compositing.BLEND_MODES) == 16


def test_blend_modes_follow_the_closed_formula():
    for mode in compositing.BLEND_MODES:
        source, backdrop = random_rgba(2, (48, 48)), random_rgba(3, (48, 48))
        opacity = 0.8
        result = images.premultiply(compositing.blend(source, backdrop, mode, opacity))
        for index in np.ndindex(48, 48):
            s, b = source[index].astype(np.float64), backdrop[index].astype(np.float64)
            alpha = s[3] * opacity
            blended = np.array(printed_blend(mode, list(s[:3]), list(b[:3])))
            colour = (1 - b[3]) * s[:3] + b[3] * blended
            expected = [*(alpha * colour + b[3] * b[:3] * (1 - alpha)), alpha + b[3] * (1 - alpha)]
            np.testing.assert_allclose(result[index], expected, atol=1e-6, err_msg=f"{s} {b}")


@given(rgba, rgba, st.sampled_from(compositing.BLEND_MODES), values)
def test_every_blend_is_an_image(source, backdrop, mode, opacity):
    result = compositing.blend(source, backdrop, mode, opacity)
    assert images.check(result).dtype == np.float32
    assert np.allclose(
        images.premultiply(compositing.blend(source, backdrop, mode, 0)),
        images.premultiply(backdrop),
        atol=1e-6,
    )


@given(rgba, rgba)
def test_mix_goes_from_one_image_to_the_other(a, b):
    for weight, expected in ((0, a), (1, b)):
        mixed = compositing.mix(a, b, weight)
        np.testing.assert_allclose(
            images.premultiply(mixed), images.premultiply(expected), atol=1e-6
        )
    steps = np.broadcast_to(np.linspace(0, 1, SIZE[1], dtype=np.float32), SIZE)
    images.check(compositing.mix(a, b, steps))


def test_by_depth_puts_the_nearer_in_front_pixel_by_pixel():
    red, green = np.zeros((1, 4, 3), np.float32), np.zeros((1, 4, 3), np.float32)
    red[..., 0], green[..., 1] = 1, 1
    near = np.array([[1, 3, np.nan, 2.0]])
    far = np.array([[2, 2, 5, 2.0]])
    result = compositing.by_depth([red, green], [near, far])
    assert result.shape == (1, 4, 3)
    assert result[0, :, 0].tolist() == [1, 0, 0, 1]  # unknown is farthest; at a tie the first wins
    clear = np.zeros((1, 4, 4), np.float32)
    assert compositing.by_depth([clear, red], [near, far]).shape == (1, 4, 3)  # red is opaque
    assert compositing.by_depth([clear, clear], [near, far]).shape == (1, 4, 4)


@given(
    st.lists(
        st.tuples(rgba, hnp.arrays(np.float32, SIZE, elements=st.sampled_from([1, 2, 3]))),
        min_size=1,
        max_size=4,
    )
)
def test_by_depth_does_what_sorting_each_pixel_by_hand_does(pairs):
    layers, depths = zip(*pairs, strict=True)
    result = compositing.by_depth(layers, depths)
    for y, x in np.ndindex(SIZE):
        order = sorted(range(len(layers)), key=lambda i: (depths[i][y, x], i))
        pixel = layers[order[-1]][y : y + 1, x : x + 1]
        for i in reversed(order[:-1]):
            pixel = compositing.over(layers[i][y : y + 1, x : x + 1], pixel)
        np.testing.assert_allclose(
            images.premultiply(result[y : y + 1, x : x + 1]), images.premultiply(pixel), atol=1e-6
        )


def test_feather_is_a_straight_ramp_across_the_edge():
    mask = np.zeros((5, 20), bool)
    mask[:, 10:] = True
    ramp = compositing.feather(mask, 4)[2]
    np.testing.assert_allclose(ramp[6:14], (np.arange(8) + 0.5) / 8)
    assert ramp[5] == 0 and ramp[14] == 1
    assert np.array_equal(compositing.feather(mask, 0), mask)
    assert compositing.feather(np.ones((3, 3)), 5).min() == 1
    assert compositing.feather(np.zeros((3, 3)), 5).max() == 0


@given(rgb, hnp.arrays(np.float32, SIZE, elements=values))
def test_pyramid_blend_of_an_image_with_itself_is_that_image(image, mask):
    np.testing.assert_allclose(compositing.pyramid_blend(image, image, mask), image, atol=1e-6)


def test_pyramid_blend_shows_each_image_where_the_mask_says():
    for size in [(64, 64), (37, 53), (5, 3), (1, 1), (1, 9)]:
        rng = np.random.default_rng(0)
        a, b = (rng.random((*size, 3), dtype=np.float32) for _ in range(2))
        for mask, expected in ((np.ones(size), a), (np.zeros(size), b)):
            np.testing.assert_allclose(compositing.pyramid_blend(a, b, mask), expected, atol=1e-6)


def test_poisson_blend_removes_a_constant_offset_exactly():
    # Source = backdrop + constant: the gradients agree, so the pasted part must equal the backdrop.
    backdrop = datasets.photo("chelsea")[50:110, 60:140] * np.float32(0.6)
    mask = np.zeros(backdrop.shape[:2], bool)
    mask[10:50, 15:60] = True
    result = compositing.poisson_blend(backdrop + np.float32(0.3), backdrop, mask)
    np.testing.assert_allclose(result, backdrop, atol=1e-5)


def test_poisson_blend_satisfies_its_equation_and_keeps_the_backdrop():
    rng = np.random.default_rng(0)
    source = 0.4 + 0.2 * rng.random((12, 15, 3), dtype=np.float32)
    backdrop = 0.4 + 0.2 * rng.random((12, 15, 3), dtype=np.float32)
    mask = rng.random((12, 15)) < 0.6
    result = compositing.poisson_blend(source, backdrop, mask)
    assert np.array_equal(result[~mask], backdrop[~mask])
    for y, x in np.argwhere(mask):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        around = [(i, j) for i, j in around if 0 <= i < 12 and 0 <= j < 15]
        ours = sum(result[y, x] - result[i, j] for i, j in around)
        wanted = sum(source[y, x] - source[i, j] for i, j in around)
        if 0.001 < result[y, x].min() and result[y, x].max() < 0.999:
            np.testing.assert_allclose(ours, wanted, atol=1e-5)


@needs_shared
def test_the_lemur_goes_to_the_beach():
    folder = SHARED / "pymatting" / "lemur"
    foreground = images.read(folder / "lemur_foreground.png")
    alpha = images.read(folder / "lemur_alpha.png", "L")
    lemur = np.concatenate([foreground, alpha], axis=2)
    beach = images.resize(images.read(folder / "beach.png"), *lemur.shape[:2])
    result = compositing.over(lemur, beach)
    assert np.abs(result - foreground)[alpha[..., 0] == 1].max() < 1e-6
    assert np.abs(result - beach)[alpha[..., 0] == 0].max() < 1e-6
    soft = (alpha[..., 0] > 0.2) & (alpha[..., 0] < 0.8)
    expected = foreground[soft] * alpha[soft] + beach[soft] * (1 - alpha[soft])
    np.testing.assert_allclose(result[soft], expected, atol=1e-6)


@needs_shared
def test_two_rgbd_frames_composite_by_depth_and_missing_depth_loses():
    folder = SHARED / "open3d_rgbd"
    frames, depths = [], []
    for number in ("00000", "00004"):
        frames.append(images.read(folder / "color" / f"{number}.jpg"))
        depths.append(images.read_depth(folder / "depth" / f"{number}.png"))
    first, second = depths
    missing = np.isnan(first)
    assert 0.02 < missing.mean() < 0.6 and 0.3 < np.nanmin(first) < np.nanmax(first) < 12
    result = compositing.by_depth(frames, depths)
    only_second = missing & ~np.isnan(second)
    assert only_second.sum() > 1000
    assert np.array_equal(result[only_second], frames[1][only_second])
    nearer = first < second
    assert np.array_equal(result[nearer], frames[0][nearer])


def test_input_that_makes_no_sense_is_refused_in_words():
    for call, words in [
        (lambda i: compositing.over(i, i[:1]), "backdrop is"),
        (lambda i: compositing.over(i[..., :1], i), "shape"),
        (lambda i: compositing.over(i + 1, i), "source"),
        (lambda i: compositing.over(i, i + 1), "backdrop"),
        (lambda i: compositing.porter_duff(i, i, "lighter"), "operator"),
        (lambda i: compositing.blend(i, i, "burn"), "mode"),
        (lambda i: compositing.blend(i, i, "normal", 1.5), "opacity"),
        (lambda i: compositing.mix(i, i[..., :3], 0.5), "shape"),
        (lambda i: compositing.mix(i, i, 2), "weight"),
        (lambda i: compositing.mix(i, i, np.zeros((1, 1))), "weight"),
        (lambda i: compositing.by_depth([], []), "one depth per layer"),
        (lambda i: compositing.by_depth([i], [np.zeros((2, 2)), np.zeros((2, 2))]), "one depth"),
        (lambda i: compositing.by_depth([i], [np.zeros((1, 2))]), "depth"),
        (lambda i: compositing.by_depth([i + 1], [np.zeros((2, 2))]), "layers"),
        (lambda i: compositing.feather(np.zeros((2, 2)), -1), "radius"),
        (lambda i: compositing.pyramid_blend(i, i, np.zeros((1, 1))), "mask"),
        (lambda i: compositing.pyramid_blend(i, i, np.zeros((2, 2)), levels=0), "levels"),
        (lambda i: compositing.poisson_blend(i, i, np.zeros((2, 2))), "shape"),
        (lambda i: compositing.poisson_blend(i[..., :3], i[..., :3], np.ones((2, 2))), "mask"),
        (lambda i: compositing.over(i[:0], i[:0]), "no pixel"),
    ]:
        with pytest.raises(ValueError, match=words):
            call(np.full((2, 2, 4), 0.5, np.float32))
