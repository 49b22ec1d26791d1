"""Which partition a key belongs to: the murmur2 rule of the Java client and of aiokafka."""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_U32 = 0xFFFFFFFF
_SEED32 = np.uint32(_SEED)
_MIX32 = np.uint32(_MIX)
MAX_COLUMNS = 64


def murmur2(key: bytes) -> int:
    """MurmurHash2 as in org.apache.kafka.common.utils.Utils, as an unsigned 32-bit number."""
    length = len(key)
    h = _SEED ^ length
    whole = length & ~3
    for word in struct.unpack_from(f"<{whole // 4}I", key):
        k = word * _MIX & _U32
        h = h * _MIX & _U32 ^ (k ^ k >> 24) * _MIX & _U32
    if whole < length:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _MIX & _U32
    h = (h ^ h >> 13) * _MIX & _U32
    return h ^ h >> 15


@lru_cache(maxsize=1 << 16)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition (0 .. partitions - 1) of one key; keys repeat, so recent answers are remembered."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partitions_of(keys: Sequence[bytes], partitions: int) -> NDArray[np.int64]:
    """The partitions of many keys [N] at once, column by column of four bytes."""
    if not keys:
        return np.zeros(0, np.int64)
    lengths = np.fromiter(map(len, keys), np.uint32, len(keys))
    longest = int(lengths.max())
    if longest > MAX_COLUMNS * 4:  # one huge key would make every key as costly
        return np.array([partition_of(key, partitions) for key in keys], np.int64)
    words = np.array(keys, f"S{longest // 4 * 4 + 4}").view("<u4").reshape(len(keys), -1)
    whole = lengths >> 2
    shortest = int(whole.min())
    h: NDArray[Any] = lengths ^ _SEED32
    for column in range(longest // 4):
        k = words[:, column] * _MIX32
        mixed = h * _MIX32 ^ (k ^ k >> 24) * _MIX32
        h = mixed if column < shortest else np.where(column < whole, mixed, h)
    tail = words[np.arange(len(keys)), whole]  # zero-padded, so it holds nothing but the bytes left over
    h = np.where(lengths & 3, (h ^ tail) * _MIX32, h)
    h = (h ^ h >> 13) * _MIX32
    homes: NDArray[np.int64] = ((h ^ h >> 15) & 0x7FFFFFFF).astype(np.int64) % partitions
    return homes
