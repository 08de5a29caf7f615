"""text: words become numbers and come back, in every script and at every length."""

import numpy as np
import pytest

from imagegen_tf import text

CAPTIONS = ["a small red star above a large blue circle", "a green ring", "A Red star."]


@pytest.fixture(scope="module")
def vocabulary():
    return text.Vocabulary(CAPTIONS)


def test_captions_come_back(vocabulary):
    rows = vocabulary.encode(CAPTIONS)
    assert rows.dtype == np.int32
    assert rows.shape == (3, 11)
    assert vocabulary.decode(rows) == [*CAPTIONS[:2], "a red star"]


def test_rows_have_start_words_end_and_padding(vocabulary):
    row = vocabulary.encode(["a green ring"])[0]
    assert row[0] == text.START
    assert row[4] == text.END
    assert (row[5:] == text.PADDING).all()
    assert row[1:4].min() > text.END


def test_the_most_frequent_word_comes_first(vocabulary):
    assert vocabulary.words[4] == "a"
    assert len(vocabulary) == 4 + len(set(" ".join(CAPTIONS).lower().replace(".", "").split()))


def test_unknown_words_are_kept_as_unknown(vocabulary):
    row = vocabulary.encode(["a purple star"])[0]
    assert row[2] == text.UNKNOWN
    assert vocabulary.decode([row]) == ["a [UNK] star"]
    assert set(vocabulary.unknown("a Purple star, please!")) == {"purple", "please"}
    assert vocabulary.unknown("") == []
    assert repr(vocabulary.unknown("red dragon")) == "['dragon']"  # plain texts, not NumPy's


def test_an_empty_caption_is_start_and_end(vocabulary):
    for empty in ("", "  ", "?!"):
        row = vocabulary.encode([empty])[0]
        assert row[:2].tolist() == [text.START, text.END]
        assert not row[2:].any()
    assert vocabulary.encode([]).shape == (0, 11)


def test_a_long_caption_is_cut_and_still_ends(vocabulary):
    row = vocabulary.encode(["red " * 200])[0]
    assert row[-1] == text.END
    assert vocabulary.decode([row]) == [" ".join(["red"] * 9)]


def test_capitals_and_punctuation_of_other_scripts_do_not_count():
    vocabulary = text.Vocabulary(["Красная звезда", "Öl", "星。"])
    asked = ["красная «Звезда»!", "öl", "星"]
    assert not (vocabulary.encode(asked) == text.UNKNOWN).any()
    assert [vocabulary.unknown(one) for one in asked] == [[], [], []]


def test_other_scripts_are_words_too():
    captions = ["красная звезда", "赤い 星", "a red star\r\n"]
    vocabulary = text.Vocabulary(captions)
    assert vocabulary.decode(vocabulary.encode(captions)) == [*captions[:2], "a red star"]


def test_rare_words_are_left_out_on_request():
    vocabulary = text.Vocabulary(["a b", "a b", "a c"], max_words=2, length=4)
    assert vocabulary.words[4:] == ("a", "b")
    assert vocabulary.decode(vocabulary.encode(["a c"])) == ["a [UNK]"]


def test_a_vocabulary_is_saved_and_read(vocabulary, tmp_path):
    vocabulary.save(tmp_path / "words.json")
    again = text.Vocabulary.load(tmp_path / "words.json")
    assert again.words == vocabulary.words
    assert np.array_equal(again.encode(CAPTIONS), vocabulary.encode(CAPTIONS))


@pytest.mark.parametrize("captions", [[], [""], ["...", " "]])
def test_without_words_there_is_no_vocabulary(captions):
    with pytest.raises(ValueError, match="expected at least one word"):
        text.Vocabulary(captions)


def test_bad_arguments_are_named(vocabulary):
    with pytest.raises(TypeError, match="expected a list of texts"):
        vocabulary.encode("a red star")
    with pytest.raises(ValueError, match="length: expected 3 or more"):
        text.Vocabulary(["a"], length=2)
    with pytest.raises(ValueError, match="expected numbers from 0"):
        vocabulary.decode([[2, 99]])
