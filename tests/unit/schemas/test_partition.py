"""The partition of a key is the one that Java producers and aiokafka choose."""

from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.partition import murmur2, partition_of, partitions_of


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_murmur2_is_the_one_of_aiokafka(key: bytes) -> None:
    assert murmur2(key) == reference(key)


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(1, 300))
def test_the_partition_is_the_one_of_aiokafka(key: bytes, partitions: int) -> None:
    choices = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, choices, choices)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=70), max_size=40), st.integers(1, 300))
def test_many_keys_at_once_get_the_same_partitions(keys: list[bytes], partitions: int) -> None:
    assert partitions_of(keys, partitions).tolist() == [partition_of(key, partitions) for key in keys]


def test_one_huge_key_costs_the_others_nothing() -> None:
    keys = [b"k" * 100_000, *(b"user-%d" % number for number in range(500))]
    assert partitions_of(keys, 16).tolist() == [partition_of(key, 16) for key in keys]


def test_known_values_of_the_java_client() -> None:
    # From org.apache.kafka.common.utils.UtilsTest.testMurmur2, as signed 32-bit numbers.
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    assert {key: murmur2(key) - (1 << 32) for key in known} == known
