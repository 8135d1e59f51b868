"""Random numbers that are a function of what they are for, not of who asked before.

Philox4x32-10 turns a counter and a key into four random words, so the draws of a whole
batch are made at once, in any order, by any thread, without a generator for each image
(NumPy takes 24 microseconds to seed one; this takes 3 an image).

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11, 2011; the
constants and the known answers of the tests are those of its library Random123.
"""

import numpy as np

_ROUNDS = 10
_WORD = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_WORDS_PER_BLOCK = 4


def uniform(
    numbers: np.ndarray, *, seed: int, epoch: int, stream: int, count: int
) -> np.ndarray:
    """Returns `count` random numbers for each of `numbers`, in [0, 1).

    Args:
        numbers: What they are for, such as an image's row in the pack: 0 to 2**32 - 1.
        seed: The run's seed, 0 to 2**64 - 1.
        epoch: The epoch, 0 to 2**32 - 1.
        stream: Separates draws for different ends, 0 to 2**32 - 1.
        count: Draws per number.

    Shapes:
        numbers: (n,) integers; the result: (count, n) float64, with 32 random bits.
    """
    blocks = -(-count // _WORDS_PER_BLOCK)
    counters = np.empty((_WORDS_PER_BLOCK, blocks, len(numbers)), np.uint64)
    counters[0] = numbers
    counters[1] = np.arange(blocks)[:, None]
    counters[2] = epoch
    counters[3] = stream
    words = philox(counters, key=(seed & 0xFFFFFFFF, seed >> 32))
    in_order = words.transpose(1, 0, 2).reshape(-1, len(numbers))
    return in_order[:count] * 2.0**-32


def philox(counters: np.ndarray, *, key: tuple[int, int]) -> np.ndarray:
    """Returns the four random words of each counter.

    Args:
        counters: Four words below 2**32 each, along the first axis.
        key: Two words below 2**32.

    Shapes:
        counters: (4, ...) uint64, and so is the result.
    """
    first, second, third, fourth = counters
    keys = list(map(np.uint64, key))
    for _ in range(_ROUNDS):
        left, right = first * _MULTIPLIERS[0], third * _MULTIPLIERS[1]
        first, second, third, fourth = (
            (right >> _WORD) ^ second ^ keys[0],
            right & _LOW,
            (left >> _WORD) ^ fourth ^ keys[1],
            left & _LOW,
        )
        keys = [(word + step) & _LOW for word, step in zip(keys, _WEYL, strict=True)]
    return np.stack([first, second, third, fourth])
