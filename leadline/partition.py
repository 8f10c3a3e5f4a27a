"""Which partition a key belongs to: Kafka's default for keyed records, as Java's client computes it.

Both of Leadline's input topics must be partitioned alike, or a label never meets its prediction. librdkafka's own
default (`consistent_random`, a CRC32) is *not* this; its `murmur2_random` is. Source: Austin Appleby's MurmurHash2, 32
bit, little endian, in the form of `org.apache.kafka.common.utils.Utils.murmur2`.
"""

from __future__ import annotations

from struct import iter_unpack

_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C  # Kafka's constant, not a parameter
_MULTIPLIER = 0x5BD1E995


def murmur2(key: bytes) -> int:
    """The hash as Java shows it: a signed 32-bit integer."""
    length = len(key)
    hashed = _SEED ^ length
    whole = length & ~3
    for (word,) in iter_unpack("<I", key[:whole]):
        mixed = word * _MULTIPLIER & _MASK
        mixed ^= mixed >> 24
        hashed = (hashed * _MULTIPLIER ^ mixed * _MULTIPLIER) & _MASK
    if length > whole:
        hashed = (hashed ^ int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _MASK
    hashed ^= hashed >> 13
    hashed = hashed * _MULTIPLIER & _MASK
    hashed ^= hashed >> 15
    return hashed - 0x1_0000_0000 if hashed & 0x8000_0000 else hashed


def partition_of(key: bytes, partitions: int) -> int:
    """The partition in [0, partitions) that Java's default partitioner and librdkafka's `murmur2_random` choose for a
    key.

    Raises `ValueError` where there is no partition to choose.
    """
    if partitions < 1:
        raise ValueError(f"a topic has at least one partition, not {partitions}")
    return (murmur2(key) & 0x7FFFFFFF) % partitions
