"""metrics: PSNR and SSIM against scikit-image, and a report that fails when a bound is missed."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from imagegen_tf import datasets, metrics, noise
from imagegen_tf.datasets import glyphs
from imagegen_tf.progress import History

PHOTO = datasets.photo("chelsea")[:100, :120]
NOISY = noise.gaussian(PHOTO, 0.1, rng=0)
GOOD = metrics.row("error", 0.5, better="lower", bound=1.0, baseline=2.0, unit="dB")


def test_psnr_and_ssim_are_scikit_images():
    psnr = peak_signal_noise_ratio(PHOTO.astype(float), NOISY.astype(float), data_range=1)
    ssim = structural_similarity(
        PHOTO.astype(float),
        NOISY.astype(float),
        data_range=1,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert metrics.psnr(NOISY, PHOTO) == pytest.approx(psnr, abs=1e-6)
    assert metrics.ssim(NOISY, PHOTO) == pytest.approx(ssim, abs=1e-6)
    assert metrics.psnr(PHOTO, PHOTO) == math.inf
    assert metrics.ssim(PHOTO, PHOTO) == pytest.approx(1)


@pytest.mark.parametrize("measure", [metrics.psnr, metrics.ssim])
def test_images_of_different_shape_are_refused(measure):
    with pytest.raises(ValueError, match="shape"):
        measure(PHOTO, PHOTO[1:])
    with pytest.raises(TypeError, match="uint8"):
        measure(PHOTO, (PHOTO * 255).astype(np.uint8))
    with pytest.raises(ValueError, match="11 x 11"):
        metrics.ssim(PHOTO[:5], PHOTO[:5])


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEGEN_RUNS", str(tmp_path))
    monkeypatch.delenv("IMAGEGEN_PROFILE", raising=False)
    return tmp_path


def test_report_writes_what_the_design_asks_for(runs, capsys):
    metrics.report("99_test", [GOOD], dataset="photos", seed=3)
    content = json.loads((runs / "99_test" / "metrics.json").read_text())
    assert content.pop("seconds") > 0
    assert content == {
        "chapter": "99_test",
        "profile": "quick",
        "dataset": "photos",
        "seed": 3,
        "trained_here": False,
        "steps": 0,
        "num_replicas": 1,
        "policy": "float32",
        "rows": [GOOD],
    }
    assert [path.name for path in (runs / "99_test").iterdir()] == ["metrics.json"]
    assert "error" in capsys.readouterr().out


def test_report_takes_what_run_and_trainings_tell(runs):
    run = SimpleNamespace(num_replicas=2, policy="mixed_bfloat16")
    trainings = [History(first=10, steps=[11, 15], seconds=2.0), History(steps=[7], seconds=1.5)]
    fields = ("trained_here", "steps", "seconds", "num_replicas", "policy")
    for settings, expected in (
        ({"history": trainings[0]}, (True, 5, 2.0, 2, "mixed_bfloat16")),
        ({"history": trainings}, (True, 12, 3.5, 2, "mixed_bfloat16")),
        ({"steps": np.int64(5), "seconds": np.float32(2.5)}, (False, 5, 2.5, 2, "mixed_bfloat16")),
    ):
        row = GOOD | {"value": np.float32(0.5), "baseline": np.int64(2)}
        metrics.report("99_test", [row], dataset="photos", seed=np.int64(3), run=run, **settings)
        content = json.loads((runs / "99_test" / "metrics.json").read_text())
        assert tuple(content[field] for field in fields) == expected
        assert content["rows"] == [GOOD]


def test_report_fails_when_a_bound_is_missed_or_a_value_is_not_finite(runs):
    for value in [1.5, math.nan, math.inf, -math.inf]:
        with pytest.raises(AssertionError, match="missed: error"):
            metrics.report("99_test", [GOOD | {"value": value}], dataset="photos", seed=0)
        row = json.loads((runs / "99_test" / "metrics.json").read_text())["rows"][0]
        assert row["value"] == (value if math.isfinite(value) else str(value))


def test_a_report_is_valid_json_whatever_the_baseline(runs):
    odd = GOOD | {"baseline": math.nan}
    metrics.report("99_test", [odd], dataset="photos", seed=np.int64(3))
    text = (runs / "99_test" / "metrics.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["rows"][0]["baseline"] == "nan"


def test_better_higher_turns_the_bound_round():
    row = GOOD | {"better": "higher"}
    assert not metrics.is_met(row)
    assert metrics.is_met(row | {"value": 1.0})
    assert metrics.is_met(GOOD | {"value": 1.0})


def test_report_refuses_rows_that_are_not_complete(runs):
    for row in [
        {"name": "a", "value": 1},
        GOOD | {"extra": 1},
        GOOD | {"better": "larger"},
        GOOD | {"bound": None},
        GOOD | {"value": None},
    ]:
        with pytest.raises(ValueError, match="expected|needed"):
            metrics.report("99_test", [row], dataset="photos", seed=0)
        with pytest.raises(ValueError, match="at least one"):
            metrics.report("99_test", [], dataset="photos", seed=0)
        assert list(runs.iterdir()) == []


def test_the_worse_the_pictures_the_larger_the_distances():
    both, _ = glyphs.draw("01234", 1_200, rng=5)
    floats = (both[600:] / 255).astype(np.float32)
    extract = metrics.features(datasets.Dataset("digits", "train", both))
    real, fair = extract(both[:600]), extract(both[600:])
    rng = np.random.default_rng(0)
    noisy = [
        np.clip(floats + rng.normal(0, sigma, floats.shape), 0, 1) for sigma in (0.03, 0.1, 0.3)
    ]
    blurred = [ndimage.gaussian_filter(floats, (0, sigma, sigma, 0)) for sigma in (0.5, 1, 2)]
    for worse in (noisy, blurred):
        sets = [fair, *(extract(np.clip(one, 0, 1).astype(np.float32)) for one in worse)]
        for distance in (metrics.frechet_distance, metrics.kernel_distance):
            found = [distance(real, one) for one in sets]
            assert found == sorted(found) and found[-1] > 10 * abs(found[0])
        shares = [metrics.precision_recall(real, one) for one in sets]
        assert min(shares[0]) > 0.6 and max(shares[-1]) < 0.2


def test_missing_kinds_of_pictures_lower_the_recall_alone():
    both, labels = glyphs.draw("01234", 2_000, rng=6)
    found = metrics.features(datasets.Dataset("digits", "train", both))(both)
    real, generated, kinds = found[:1_000], found[1_000:], labels[1_000:]
    precision, recall = metrics.precision_recall(real, generated)
    few_precision, few_recall = metrics.precision_recall(real, generated[kinds < 2])
    assert few_recall < 0.45 < 0.7 < recall  # two kinds of five
    assert few_precision > precision - 0.05


def test_bleu_by_hand():
    # Papineni's example: of seven "the" only two count, as the reference has no more.
    scores = metrics.bleu(["the the the the the the the"], [["the cat is on the mat"]])
    assert scores == pytest.approx((2 / 7, 0, 0, 0))
    # Three of four words, one of three pairs, no run of three; as long as its reference.
    scores = metrics.bleu(["a red ring here"], [["a red star here", "x"]])
    assert scores == pytest.approx((3 / 4, (3 / 4 * 1 / 3) ** (1 / 2), 0, 0))
    # All words right, but two instead of three: the penalty is exp(1 - 3/2).
    assert metrics.bleu(["a red"], [["a red ring"]])[0] == pytest.approx(math.exp(-1 / 2))


def test_bleu_counts_over_all_captions_and_references():
    one, two = "a red star above a blue ring", "a green heart"
    assert metrics.bleu([one, two], [["x", one], [two]]) == pytest.approx((1, 1, 1, 1))
    # Neither case nor punctuation is changed: "Ring." is another word.
    changed = [one.replace("ring", "Ring."), two]
    scores = metrics.bleu(changed, [[one], [two]])
    assert scores[0] == pytest.approx(9 / 10)
    # Counts of all captions are added before anything is divided: 4 + 1 runs of four, 3 + 0 right.
    assert scores[3] == pytest.approx((9 / 10 * 7 / 8 * 5 / 6 * 3 / 4) ** (1 / 4))


def test_bleu_is_sacrebleus():
    from sacrebleu import corpus_bleu

    said = ["a red star left of a ring", "the blue heart", "a"]
    true = [["a red star above a ring", "a star"], ["a blue heart"], ["a ring", "a", "b"]]
    streams = [[one[place] if place < len(one) else None for one in true] for place in range(3)]
    theirs = corpus_bleu(said, streams, smooth_method="none", tokenize="none", force=True)
    assert metrics.bleu(said, true)[3] == pytest.approx(theirs.score / 100)


def test_bleu_of_nothing_is_zero_and_of_bad_input_an_error():
    assert metrics.bleu([""], [["a ring"]]) == (0, 0, 0, 0)
    with pytest.raises(TypeError, match="list of texts"):
        metrics.bleu(["a ring"], ["a ring"])
    with pytest.raises(TypeError, match="list of texts"):
        metrics.bleu("a ring", [["a ring"]])
    with pytest.raises(ValueError, match="got 1 and 2"):
        metrics.bleu(["a"], [["a"], ["b"]])
    with pytest.raises(ValueError, match="a picture has none"):
        metrics.bleu(["a"], [[]])
    with pytest.raises(ValueError, match="at least one caption"):
        metrics.bleu([], [])
