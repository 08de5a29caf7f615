"""scenes and scene_captions: what is drawn is what the captions say."""

import numpy as np
import pytest

from imagegen_tf.datasets import captions, scenes


@pytest.fixture(scope="module")
def many():
    """Give 300 scenes of two objects."""
    return list(scenes.draw(300, rng=0))


def test_a_scene_has_the_promised_parts(many):
    for scene in many[:20]:
        assert scene.image.shape == (32, 32, 3)
        assert scene.alphas.shape == (2, 32, 32, 1)
        assert scene.depth.shape == (32, 32, 1)
        for part in (scene.image, scene.alphas):
            assert part.dtype == np.float32
            assert 0 <= part.min() <= part.max() <= 1
        assert scene.depth.max() == scenes.WALL_DEPTH


def test_every_seed_gives_its_own_scenes():
    first, again, other = ([s.image for s in scenes.draw(3, rng=seed)] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("size", [32, 33, 128])
def test_a_shape_covers_its_area(size):
    areas = {"circle": np.pi * 0.95**2, "square": (2 * 0.84) ** 2}
    areas["ring"] = np.pi * (1 - 0.44**2)
    for scene in scenes.draw(40, size=size, objects=1, rng=3):
        one = scene.objects[0]
        if one.shape in areas:
            covered = scene.alphas.mean()
            assert covered == pytest.approx(areas[one.shape] * one.radius**2, rel=0.02)


def test_edges_are_smooth(many):
    partly = [(0.05 < scene.alphas) & (scene.alphas < 0.95) for scene in many]
    assert np.mean(partly) > 0.02


def test_plain_objects_have_their_colour_and_depth():
    for scene in scenes.draw(60, size=64, textures=("plain",), rng=4):
        order = np.argsort([one.depth for one in scene.objects])
        near, far = (scene.objects[place] for place in order)
        inside = scene.alphas[order[0], :, :, 0] == 1
        colour = scene.image[inside].mean(axis=0)
        assert np.abs(colour - scenes.COLOURS[near.colour]).max() < 0.15
        assert np.allclose(scene.depth[inside], near.depth)
        beside = (scene.alphas[order[1], :, :, 0] == 1) & (scene.alphas[order[0], :, :, 0] == 0)
        assert np.allclose(scene.depth[beside], far.depth)


def test_the_far_object_is_still_seen(many):
    for scene in many:
        near, far = np.argsort([one.depth for one in scene.objects])
        seen = (scene.alphas[far] * (1 - scene.alphas[near])).sum() / scene.alphas[far].sum()
        assert seen > 0.5


def test_every_caption_is_read_back(many):
    for scene in many:
        assert scene.caption in scene.captions
        assert len(set(scene.captions)) == len(scene.captions)
        for caption in scene.captions:
            reading = captions.read(caption)
            forward = (reading.objects[0]["shape"], reading.objects[0]["colour"])
            first, second = scene.objects
            if forward != (first.shape, first.colour):
                first, second = second, first
            assert reading.relation in captions.relations((first, second))
            for found, one in zip(reading.objects, (first, second), strict=True):
                assert found["size"] in (None, one.size)
                assert found | {"size": one.size} == {
                    field: getattr(one, field) for field in ("shape", "colour", "size", "texture")
                }


def test_the_objects_stand_in_the_order_of_the_caption(many):
    for scene in many:
        named = captions.read(scene.caption).objects
        assert [one["colour"] for one in named] == [one.colour for one in scene.objects]
        assert [one["shape"] for one in named] == [one.shape for one in scene.objects]
        middle = scene.alphas[0, :, :, 0] > 0.5
        place = np.argwhere(middle).mean(axis=0) / 32
        assert place == pytest.approx((scene.objects[0].y, scene.objects[0].x), abs=0.08)


def test_relations_are_those_of_the_places():
    def at(x, y, depth):
        return scenes.Object("circle", "red", "small", "plain", x, y, 0.15, 0.0, depth)

    assert captions.relations((at(0.5, 0.2, 3), at(0.5, 0.8, 6))) == ("above",)
    assert captions.relations((at(0.8, 0.5, 3), at(0.2, 0.5, 6))) == ("right of",)
    assert captions.relations((at(0.4, 0.5, 6), at(0.6, 0.5, 3))) == ("left of", "behind")
    assert captions.relations((at(0.4, 0.5, 6),)) == ()


def test_all_words_occur(many):
    text = " ".join(caption for scene in many for caption in scene.captions).split()
    expected = {*scenes.SHAPES, *scenes.COLOURS, *captions.SIZES, "striped", "dotted"}
    expected |= {word for relation in captions.OPPOSITES for word in relation.split()}
    assert set(text) == expected | {"a", "an"}


def test_pairs_that_are_kept_back():
    def pairs(scene):
        return {(one.colour, one.shape) for one in scene.objects}

    for count in (1, 2):
        seen = list(scenes.draw(200, size=16, objects=count, pairs="seen", rng=5))
        unseen = list(scenes.draw(200, size=16, objects=count, pairs="unseen", rng=5))
        assert not any(pairs(scene) & scenes.UNSEEN for scene in seen)
        assert all(pairs(scene) & scenes.UNSEEN for scene in unseen)
        assert len(set.union(*map(pairs, seen))) == 48 - len(scenes.UNSEEN)


def test_one_colour_and_shape_is_never_drawn_twice(many):
    for scene in [*many, *scenes.draw(200, size=16, pairs="unseen", rng=6)]:
        assert len({(one.colour, one.shape) for one in scene.objects}) == 2


def test_a_scene_is_drawn_from_its_caption():
    for caption in [
        "a small red star above a large blue circle",
        "A striped pink heart behind an orange ring.\r\n",
        "a large  green square",
        "a red star above a red star",
        "a plain orange ring left of a orange star",
    ]:
        scene = scenes.illustrate(caption, rng=0)
        reading = captions.read(caption)
        assert captions.read(scene.caption) == reading
        assert scene.caption in scene.captions
        assert [one.shape for one in scene.objects] == [one["shape"] for one in reading.objects]


def test_other_captions_are_refused():
    for caption, message in [
        ("", "an object is missing"),
        ("red star", 'expected "a" or "an", got \'red\''),
        ("a small tall star", "expected a colour .* got 'tall'"),
        ("a small red", "expected a shape .* got the end"),
        ("a red star near a blue ring", "expected one of above.* got 'near'"),
        ("a red star above", "an object is missing"),
        ("a red star above a blue ring tonight", "did not expect 'tonight'"),
    ]:
        with pytest.raises(ValueError, match=message):
            captions.read(caption)


def test_bad_arguments_are_named():
    for arguments, message in [
        ({"count": 0}, "count >= 1"),
        ({"count": 1, "size": 8}, "size >= 16"),
        ({"count": 1, "objects": 3}, "1 or 2 objects"),
        ({"count": 1, "pairs": "some"}, "pairs: expected"),
        ({"count": 1, "textures": ("furry",)}, "textures: expected some of"),
    ]:
        with pytest.raises(ValueError, match=message):
            scenes.draw(**arguments)


def test_a_scene_that_is_too_small_is_not_drawn():
    with pytest.raises(ValueError, match="size: expected 16"):
        scenes.illustrate("a red star", size=8)
