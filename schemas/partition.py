"""Which partition a key belongs to: the murmur2 rule of the Java client and of aiokafka."""

import struct
from functools import lru_cache

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
    """The partition (0 .. partitions - 1) of a key; keys repeat, so recent answers are remembered."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
