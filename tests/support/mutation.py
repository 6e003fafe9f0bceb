"""Inputs that nobody sends on purpose: good ones, changed at random, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import AnyStr

_LONGEST = 4_000


def mutated(
    corpus: Sequence[AnyStr],
    words: Sequence[AnyStr],
    character: Callable[[random.Random], AnyStr],
    seed: int,
    count: int,
) -> Iterator[AnyStr]:
    """Yield `count` inputs: members of the corpus after one to six changes.

    `words` are parts that mean something to the decoder, `character` makes one that may mean nothing.
    """
    rng = random.Random(seed)
    empty = corpus[0][:0]
    for _ in range(count):
        text = rng.choice(corpus)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            at = rng.randrange(len(text) + 1)
            end = min(len(text), at + rng.choice((0, 1, 1, 2, 4, 16)))
            match rng.randrange(6):
                case 0:
                    new = character(rng)
                case 1:
                    new = rng.choice(words)
                case 2:
                    new = empty
                case 3:  # What is there once more.
                    new = text[at:end] * rng.choice((2, 3, 40))
                case 4:  # A piece of another one.
                    other = rng.choice(corpus)
                    start = rng.randrange(len(other) + 1)
                    new = other[start : start + rng.choice((1, 4, 32))]
                case _:
                    text, at, end = text[: rng.randrange(len(text) + 1)], 0, 0
                    new = empty
            text = (text[:at] + new + text[end:])[:_LONGEST]
        yield text


def any_byte(rng: random.Random) -> bytes:
    return bytes((rng.randrange(256),))


def any_character(rng: random.Random) -> str:
    """ASCII, as a rule; else anything, lone surrogates too."""
    return chr(rng.randrange(32, 127)) if rng.random() < 0.7 else chr(rng.randrange(0x110000))


NASTY_TEXTS = (
    "",
    " ",
    "a ",
    "\x00",
    "\x1f",
    "\n",
    "\u202e",
    "\u2028",
    "é",
    "😀",
    "x" * 64,
    "x" * 65,
    "x" * 128,
    "x" * 129,
    "x" * 256,
    "x" * 257,
    "0",
    "-0",
    "+1",
    "1.",
    ".5",
    "1e5",
    "1e999",
    "1e-12",
    "1e-13",
    "0e999",
    "9" * 20,
    "9" * 21,
    "0." + "1" * 12,
    "0." + "1" * 13,
    "0" * 99 + "1",
    "0" * 100 + "1",
    "NaN",
    "Infinity",
    "0x10",
    "1_000",
    "\uff11",  # Digits elsewhere, not here.
    "\u0663",
    "1 ",
    "true",
)
"""Texts at the edges of what ids, names, values and numbers may be."""
