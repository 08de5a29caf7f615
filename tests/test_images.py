"""images: reading every kind of file, value ranges, resizing, writing without leftovers."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from imagegen_tf import images

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def save(path, values, mode=None, **options):
    picture = Image.fromarray(values)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def test_check_passes_images_and_says_what_is_wrong_with_others():
    for channels, dtype in [(1, np.float32), (3, np.float64), (4, np.float32)]:
        image = np.ones((2, 3, channels), dtype)
        assert images.check(image) is image
    for image, error, words in [
        ([[0.5]], TypeError, "NumPy array"),
        (np.zeros((2, 2, 3), np.uint8), TypeError, "uint8"),
        (np.zeros((2, 2, 3), np.float16), TypeError, "float16"),
        (np.zeros((2, 2)), ValueError, "shape"),
        (np.zeros((2, 2, 2)), ValueError, "1 or 3 or 4"),
        (np.zeros((0, 2, 3)), ValueError, "no pixel"),
        (np.full((1, 1, 3), 1.0 + 1e-7), ValueError, "[0, 1], got 1.0000001 to 1.0000001"),
        (np.full((1, 1, 3), -0.001), ValueError, "[0, 1]"),
        (np.full((1, 1, 3), np.nan), ValueError, "nan"),
        (np.full((1, 1, 3), np.inf), ValueError, "inf"),
    ]:
        with pytest.raises(error) as caught:
            images.check(image, "picture")
        assert words in str(caught.value) and "picture" in str(caught.value)


def test_the_type_alone_decides_the_range():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert np.array_equal(images.to_uint8(images.to_float(levels)), levels)
    assert images.to_float(np.array([[1]], np.uint8)).item() == pytest.approx(1 / 255)
    for kind, value in [("<u2", 65535), (">u2", 65535), ("<f4", 1), (">f4", 1), ("?", True)]:
        assert images.to_float(np.array([[value]], kind)).item() == 1
    with pytest.raises(TypeError, match="int64"):
        images.to_float(np.array([[255]]))


def test_luma_has_the_weights_of_bt601():
    # White is 1 in full range and 235/255 in limited range; black 0 and 16/255 (BT.601).
    white, black = np.ones((1, 1, 3)), np.zeros((1, 1, 3))
    assert images.luma(white).item() == pytest.approx(1)
    assert images.luma(white, limited=True).item() == pytest.approx(235 / 255)
    assert images.luma(black, limited=True).item() == pytest.approx(16 / 255)
    # The papers' Y = 16 + 65.481 R + 128.553 G + 24.966 B.
    colour = np.array([[[0.2, 0.5, 0.9]]])
    expected = (16 + colour[0, 0] @ [65.481, 128.553, 24.966]) / 255
    assert images.luma(colour, limited=True).item() == pytest.approx(expected, abs=1e-6)


def test_resize_to_the_same_size_changes_nothing():
    image = np.random.default_rng(0).random((5, 7, 3), dtype=np.float32)
    for method in images.RESIZE_METHODS:
        np.testing.assert_allclose(images.resize(image, 5, 7, method), image, atol=1e-6)


def test_resize_is_antialiased():
    # One-pixel stripes have mean 0.5; a resize that only samples would keep black or white.
    stripes = np.tile(np.array([0.0, 1.0], np.float32)[None, :, None], (8, 32, 1))
    assert np.abs(images.resize(stripes, 8, 16)[:, 3:-3] - 0.5).max() < 0.02


def test_resize_refuses_sizes_and_methods_that_make_no_sense():
    for arguments in [(0, 4), (4, -1), (2.5, 4), (4, 4, "cubic"), ("4", 4), (None, 4)]:
        with pytest.raises((TypeError, ValueError)):
            images.resize(np.zeros((4, 4, 3)), *arguments)


@needs_shared
@pytest.mark.parametrize(("scale", "published"), [(2, 33.64), (3, 30.39), (4, 28.42)])
def test_bicubic_reproduces_the_published_psnr_on_set5(scale, published):
    # The papers' protocol: all rounded to bytes, Y too; shave = scale; mean of five pictures.
    results = []
    for path in sorted((SHARED / "superres" / "Set5").glob("*.png")):
        truth = images.read(path)
        height, width = (size // scale * scale for size in truth.shape[:2])
        truth = truth[:height, :width]
        small = images.resize(truth, height // scale, width // scale)
        small = images.to_float(images.to_uint8(small))
        large = images.to_float(images.to_uint8(images.resize(small, height, width)))
        large, truth = (np.rint(255.0 * images.luma(x, limited=True)) for x in (large, truth))
        error = (large - truth)[scale:-scale, scale:-scale].astype(np.float64)
        results.append(10 * np.log10(255**2 / np.mean(error**2)))
    assert len(results) == 5
    assert np.mean(results) == pytest.approx(published, abs=0.02)


@needs_shared
def test_read_opens_every_picture_in_shared_data():
    suffixes = {".png", ".jpg", ".jpeg", ".bmp"}
    paths = [path for path in SHARED.rglob("*") if path.suffix.lower() in suffixes]
    assert len(paths) > 5000
    for path in paths:
        images.check(images.read(path), str(path), channels=(3,))


TIFF_MODES = "1 L LA P PA RGB RGBX RGBA CMYK YCbCr LAB I F"


@pytest.mark.parametrize(("ending", "modes"), [("png", "1 L LA P RGB RGBA"), ("tif", TIFF_MODES)])
def test_read_opens_every_mode(tmp_path, ending, modes):
    path, grey = tmp_path / f"a.{ending}", Image.fromarray(RAMP)
    whole = {"F": Image.fromarray(RAMP / np.float32(255)), "LAB": Image.merge("LAB", [grey] * 3)}
    for mode in modes.split():
        start = grey.convert("P") if mode == "PA" else grey
        (whole.get(mode) or start.convert(mode)).save(path)
        for wanted, channels in (("RGB", 3), ("L", 1), ("RGBA", 4)):
            assert images.check(images.read(path, wanted)).shape == (3, 4, channels)


def test_read_keeps_sixteen_bits(tmp_path):
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    for name in ("a.png", "a.tif", "a.pgm"):
        image = images.read(save(tmp_path / name, values), "L")
        np.testing.assert_allclose(image[0, :, 0], values[0] / 65535, atol=1e-6)


DEEP = np.array([[[60_000, 30_000, 10_000], [0, 65_535, 1]]], np.uint16)
GREEN, SHARE = DEEP[:, :, 1:2], DEEP / np.float32(65_535)
WHITE, BLACK = {"photometric": "miniswhite"}, {"photometric": "minisblack"}
SEEN, UNKNOWN = ({"extrasamples": [kind]} for kind in ("unassalpha", "unspecified"))


@pytest.mark.parametrize(
    ("values", "options", "colours", "alpha"),
    [
        (DEEP, {}, DEEP, None),
        (np.moveaxis(DEEP, 2, 0), {"planarconfig": "separate"}, DEEP, None),
        (DEEP, {"byteorder": ">"}, DEEP, None),
        (SHARE, {}, DEEP, None),
        (np.stack([DEEP, DEEP[:, ::-1]]), {}, DEEP, None),
        (DEEP[:, ::-1], {"extratags": [(274, "H", 1, 2, True)]}, DEEP, None),
        (65_535 - GREEN, WHITE, GREEN, None),
        (1 - SHARE[:, :, 1], WHITE, GREEN, None),
        (np.dstack([65_535 - GREEN, GREEN]), WHITE | SEEN, GREEN, GREEN),
        (np.dstack([GREEN, GREEN]), BLACK | SEEN, GREEN, GREEN),
        (np.dstack([DEEP, GREEN]), SEEN, DEEP, GREEN),
        (np.dstack([DEEP, GREEN]), UNKNOWN, DEEP, None),
        (np.dstack([65_535 - DEEP, 0 * GREEN]), {"photometric": "separated"}, DEEP, None),
    ],
)
def test_deep_tiff_is_read_in_every_layout(tmp_path, values, options, colours, alpha):
    tifffile.imwrite(tmp_path / "a.tif", values, **{"photometric": "rgb"} | options)
    image = images.read(tmp_path / "a.tif", "RGBA") * 65_535
    np.testing.assert_allclose(image[:, :, :3], colours * np.ones(3), atol=0.1)
    alpha = 65_535 * np.ones((1, 2, 1)) if alpha is None else alpha
    np.testing.assert_allclose(image[:, :, 3:], alpha, atol=0.1)
    assert images.read(tmp_path / "a.tif").shape == (1, 2, 3)


def png(width, height, bits, colours, pixels, *chunks):
    """Give a PNG file, chunk by chunk, of one row of pixels."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0))
    rows = (b"IDAT", zlib.compress(b"\0" + pixels))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (header, *chunks, rows, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_read_knows_a_transparent_colour_at_every_depth(tmp_path):
    deep = (60_000, 30_000, 10_000)
    for bits, pixels, key in [
        (2, bytes([0b00_01_11_00]), (1,)),
        (4, bytes([0x05, 0xF0]), (5,)),
        (8, bytes([0, 77, 255]), (77,)),
        (16, struct.pack(">3H", 0, 1000, 65535), (1000,)),
        (8, bytes([0, 0, 0, 9, 8, 7, 9, 8, 8]), (9, 8, 7)),
        (16, struct.pack(">9H", 0, 0, 0, *deep, *deep[::-1]), deep),
    ]:
        chunk = (b"tRNS", struct.pack(f">{len(key)}H", *key))
        (tmp_path / "a.png").write_bytes(png(3, 1, bits, 2 * (len(key) == 3), pixels, chunk))
        assert images.read(tmp_path / "a.png", "RGBA")[0, :, 3].tolist() == [1, 0, 1]


def test_good_pixels_beside_odd_metadata_are_read(tmp_path):
    profile = zlib.compress(np.random.default_rng(0).bytes(1_200_000))
    for chunk in ((b"iCCP", b"large\0\0" + profile), (b"gAMA", b"short"[:1])):
        (tmp_path / "a.png").write_bytes(png(1, 1, 8, 0, b"\xff", chunk))
        assert images.read(tmp_path / "a.png").min() == 1
    path = save(tmp_path / "a.jpg", RAMP, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01")
    assert images.read(path).shape == (3, 4, 3)


def test_read_decodes_large_pictures_near_the_size_that_is_asked_for(tmp_path):
    slope = np.linspace(0, 255, 640).astype(np.uint8)[:, None] * np.ones((1, 480), np.uint8)
    for name in ("a.jpg", "a.png"):
        image = images.read(save(tmp_path / name, slope, "RGB"), most_pixels=1_200)
        assert image.shape == (40, 30, 3)
        np.testing.assert_allclose(image[:, 0, 0], (np.arange(40) + 0.5) / 40, atol=0.02)
        assert images.read(tmp_path / name, most_pixels=10**6).shape == (640, 480, 3)


def test_read_opens_cmyk_jpeg_and_the_first_frame_of_a_gif(tmp_path):
    path = save(tmp_path / "a.jpg", np.full((8, 8), 200, np.uint8), "CMYK")
    np.testing.assert_allclose(images.read(path), 200 / 255, atol=0.02)
    frames = [Image.new("L", (4, 3), 255 * i) for i in (1, 0)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert images.read(tmp_path / "a.gif").min() == 1


def test_read_shows_transparency_over_white(tmp_path):
    values = np.array([[[255, 0, 0, 0], [255, 0, 0, 255]]], np.uint8)
    path = save(tmp_path / "a.png", values)
    np.testing.assert_allclose(images.read(path)[0], [[1, 1, 1], [1, 0, 0]])
    np.testing.assert_allclose(images.read(path, "RGBA")[0, 0], [1, 0, 0, 0])
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(path, transparency=0)
    np.testing.assert_allclose(images.read(path)[0], [[1, 1, 1], [0, 0, 1]])


def test_read_turns_pictures_upright(tmp_path):
    # Stored is the upright picture under the inverse of what each EXIF orientation asks for.
    upright = np.array([[0, 80], [160, 240], [40, 120]], np.uint8)
    mirrored = [upright, upright[:, ::-1], np.rot90(upright, 2), upright[::-1]]
    turned = [upright.T, np.rot90(upright), np.rot90(upright.T, 2), np.rot90(upright, -1)]
    for orientation, stored in enumerate(mirrored + turned, 1):
        for path in (tmp_path / "a.png", tmp_path / "deep.tif"):
            deep = np.ascontiguousarray(stored).astype(np.uint16) * 257
            tag = (274, "H", 1, orientation, True)
            tifffile.imwrite(tmp_path / "deep.tif", deep, extratags=[tag])
            exif = Image.Exif()
            exif[0x0112] = orientation
            save(tmp_path / "a.png", np.ascontiguousarray(stored), exif=exif)
            np.testing.assert_allclose(images.read(path, "L")[:, :, 0] * 255, upright, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.png", b"this is only text", "not a picture"),
        ("empty.png", b"", "empty"),
        ("bomb.png", png(100_000, 100_000, 8, 2, bytes(64)), "too many pixels"),
    ],
)
def test_read_names_the_file_that_is_no_picture(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        images.read(tmp_path / name)
    assert name in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_read_refuses_every_truncated_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for ending in ["png", "jpg", "tif", "webp", "gif", "bmp"]:
        whole = save(tmp_path / f"whole.{ending}", noise).read_bytes()
        for share in (0.02, 0.3, 0.9):
            (tmp_path / f"cut.{ending}").write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(ValueError, match=r"cut\."):
                images.read(tmp_path / f"cut.{ending}")


def test_read_refuses_folders_and_missing_files(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        images.read(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        images.read(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="mode"):
        images.read(tmp_path, mode="BGR")


def test_read_depth_gives_metres_and_nan_where_nothing_is_known(tmp_path):
    path = save(tmp_path / "d.png", np.array([[0, 1500, 65535]], np.uint16))
    depth = images.read_depth(path)
    assert depth.dtype == np.float32 and depth.shape == (1, 3)
    np.testing.assert_allclose(depth[0], [np.nan, 1.5, 65.535], rtol=1e-6)
    np.testing.assert_allclose(images.read_depth(path, unit=1)[0, 1], 1500)
    infinite = save(tmp_path / "d.tif", np.array([[np.inf, 2.0]], np.float32))
    np.testing.assert_allclose(images.read_depth(infinite, unit=1)[0], [np.nan, 2])
    with pytest.raises(ValueError, match="grey depth"):
        images.read_depth(save(tmp_path / "c.png", RAMP, "RGB"))
    with pytest.raises(ValueError, match="unit"):
        images.read_depth(path, unit=0)


def test_write_then_read_gives_the_same_image(tmp_path):
    for mode, channels in (("L", 1), ("RGB", 3), ("RGBA", 4)):
        values = np.random.default_rng(0).integers(0, 256, (5, 6, channels), dtype=np.uint8)
        images.write(tmp_path / "a.png", values)
        assert np.array_equal(images.to_uint8(images.read(tmp_path / "a.png", mode)), values)


def test_write_keeps_a_note_in_png(tmp_path):
    note = "made by a generator, 2026 · żółw"
    images.write(tmp_path / "a.png", np.zeros((2, 2, 3)), note=note)
    assert Image.open(tmp_path / "a.png").text["Description"] == note
    with pytest.raises(ValueError, match="PNG"):
        images.write(tmp_path / "a.jpg", np.zeros((2, 2, 3)), note=note)


def test_write_refuses_and_leaves_nothing(tmp_path):
    for name, image, error in [
        ("a.xyz", np.zeros((2, 2, 3)), ValueError),
        ("a.jpg", np.zeros((1, 65_501, 1)), ValueError),
        ("a.jpg", np.zeros((2, 2, 4)), ValueError),
        ("a.png", np.full((2, 2, 3), 2.0), ValueError),
        ("a.png", np.zeros((2, 2), np.uint8), ValueError),
        ("a.png", np.zeros((2, 2, 3), int), TypeError),
        ("no/a.png", np.zeros((2, 2, 3)), FileNotFoundError),
    ]:
        with pytest.raises(error, match="65500" if image.size == 65_501 else None):
            images.write(tmp_path / name, image)
        assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    images.write(tmp_path / "a.png", np.zeros((2, 2, 3)))
    before = (tmp_path / "a.png").read_bytes()
    monkeypatch.setitem(Image.SAVE, "PNG", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        images.write(tmp_path / "a.png", np.ones((2, 2, 3)))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
