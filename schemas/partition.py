"""Which partition a key belongs to: the murmur2 rule of the Java client and of aiokafka."""

import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_U32 = 0xFFFFFFFF


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
    """The partitions of many keys [N] at once; for keys as short as ids, since the longest sets the work."""
    if not keys:
        return np.zeros(0, np.int64)
    lengths = np.fromiter(map(len, keys), np.uint32, len(keys))
    width = int(lengths.max()) // 4 + 1
    words = np.array(keys, f"S{width * 4}").view("<u4").reshape(len(keys), width)
    whole = lengths // 4
    h = _SEED ^ lengths
    for column in range(width):
        k = words[:, column] * np.uint32(_MIX)
        mixed = h * np.uint32(_MIX) ^ (k ^ k >> 24) * np.uint32(_MIX)
        h = np.where(column < whole, mixed, h)
    tail = words[np.arange(len(keys)), whole]  # zero-padded, so it holds nothing but the bytes left over
    h = np.where(lengths % 4 > 0, (h ^ tail) * np.uint32(_MIX), h)
    h = (h ^ h >> 13) * np.uint32(_MIX)
    return ((h ^ h >> 15) & 0x7FFFFFFF).astype(np.int64) % partitions
