"""Captions as rows of whole numbers, and back."""

import functools
import json
import string
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np

from imagegen_tf import runtime

PADDING, UNKNOWN, START, END = range(4)
_SPECIAL = ("", "[UNK]", "[START]", "[END]")


@functools.cache
def _punctuation():
    """List every script's punctuation, and ASCII's symbols, for str.translate."""
    every = map(chr, range(sys.maxunicode + 1))
    marks = [mark for mark in every if unicodedata.category(mark)[0] == "P"]
    return str.maketrans("", "", "".join(marks) + string.punctuation)


def _words(caption):
    """Split a text into its words, in lower case and without punctuation."""
    return caption.lower().translate(_punctuation()).split()


class Vocabulary:
    """The words that a model knows, each with a number.

    Words are in lower case, punctuation is left out. 0 is padding, 1 any unknown word, 2 the start
    of a caption and 3 its end; then come the words, the most frequent first.

    Args:
        captions: texts to collect the words from, in any script.
        max_words: how many to keep at most; the rarest become unknown. None keeps all.
        length: numbers in a row, with start and end. By default the longest caption's.
    Raises:
        ValueError: no caption has a word, or a length below 3.
    Example:
        >>> vocabulary = Vocabulary(["a red star", "a blue ring"])
        >>> vocabulary.encode(["A red moon!"]).tolist()
        [[2, 4, 7, 1, 3]]
        >>> vocabulary.decode(vocabulary.encode(["A red moon!"]))
        ['a red [UNK]']

    Taught in: notebooks/09_captioning.ipynb
    """

    def __init__(self, captions, *, max_words=None, length=None):
        split = [_words(caption) for caption in captions]
        counts = Counter(word for words in split for word in words)
        if not counts:
            raise ValueError("captions: expected at least one word, got none")
        # The most frequent first; among equals the last in the alphabet, as Keras has it.
        ranked = sorted(counts, key=lambda word: (counts[word], word), reverse=True)
        self._build(ranked[:max_words], max(map(len, split)) + 2 if length is None else length)

    def _build(self, words, length):
        """Set the words and the length of a row."""
        if length < 3:
            raise ValueError(f"length: expected 3 or more, for start, a word and end; got {length}")
        self.length = length
        self.words = (*_SPECIAL, *words)
        self._numbers = {word: number for number, word in enumerate(self.words)}

    def __len__(self):
        """Count the numbers in use: the words and the four special ones."""
        return len(self.words)

    def encode(self, captions):
        """Write captions as rows of numbers.

        Args:
            captions: list of texts; an empty one gives start and end only. What is longer than a
                row is cut, and the row still ends with the end.
        Returns:
            int32 (captions, length).
        Raises:
            TypeError: a single text instead of a list.
        """
        if isinstance(captions, str):
            raise TypeError("captions: expected a list of texts, got one text")
        rows = np.full((len(captions), self.length), PADDING, np.int32)
        for row, caption in zip(rows, captions, strict=True):
            words = _words(caption)[: self.length - 2]
            numbers = [START, *(self._numbers.get(word, UNKNOWN) for word in words), END]
            row[: len(numbers)] = numbers
        return rows

    def decode(self, rows):
        """Write rows of numbers as captions again, up to each row's end.

        Args:
            rows: whole numbers (captions, any length), with or without start.
        Returns:
            list of texts.
        Raises:
            ValueError: a number that no word has.
        """
        captions = []
        for row in np.asarray(rows):
            numbers = row[: np.argmax(row == END)] if (row == END).any() else row
            if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
                raise ValueError(f"rows: expected numbers from 0 to {len(self) - 1}, got {numbers}")
            captions.append(" ".join(self.words[n] for n in numbers if n not in (PADDING, START)))
        return captions

    def unknown(self, caption):
        """Name the words of a caption that the vocabulary does not have.

        Returns:
            list of texts, the most frequent first.
        """
        counts = Counter(_words(caption))
        return [word for word, _ in counts.most_common() if word not in self._numbers]

    def save(self, path):
        """Write the words and the length as JSON; `load` reads it."""
        content = {"length": self.length, "words": self.words[4:]}
        runtime.write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path):
        """Read a vocabulary that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
        """
        content = json.loads(Path(path).read_text("utf-8"))
        vocabulary = cls.__new__(cls)
        vocabulary._build(content["words"], content["length"])
        return vocabulary
