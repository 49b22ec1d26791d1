"""Topics and Redis keys: one place each, one slot a partition."""

import pytest
from redis.crc import key_slot

from schemas.keys import Keys
from schemas.topics import KINDS, Topics
from streams.features.declaration import DEFAULT


def test_a_prefix_is_put_before_every_topic() -> None:
    topics = Topics("t1.")
    names = [getattr(topics, name) for name in ("clicks", "items", "deltas", "recommendations", "decisions")]
    assert names == [
        "t1.events.clicks.v1",
        "t1.items.v1",
        "t1.items.deltas.v1",
        "t1.recommendations.v1",
        "t1.decisions.v1",
    ]
    assert topics.dead_letters == "t1.events.dead-letters.v1"
    assert set(topics.kinds) == set(topics.user_inputs)


def test_a_rebuild_shares_the_events_and_has_item_deltas_of_its_own() -> None:
    live, rebuild = Topics("t1."), Topics("t1.", "next")
    assert rebuild.user_inputs == live.user_inputs
    assert rebuild.deltas == "t1.items.deltas.next.v1"


def test_no_kind_belongs_to_two_topics() -> None:
    kinds = [kind for carried in KINDS.values() for kind in carried]
    assert len(kinds) == len(set(kinds))


def test_documents_tell_the_kinds_that_workers_take() -> None:
    assert {topic: DEFAULT.wire_kinds(word) for topic, word in Topics().word_of.items()} == KINDS


@pytest.mark.parametrize("prefix", ["a b", "é", "x" * 101, "a/"])
def test_a_prefix_kafka_would_refuse_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="topic prefix"):
        Topics(prefix)


def test_all_keys_of_a_partition_share_a_cluster_slot() -> None:
    keys = Keys("shop")
    for tag in (keys.user_tag(3), keys.item_tag(3)):
        on_tag = [
            keys.meta(tag),
            keys.queue(tag),
            keys.leased(tag),
            keys.row(tag, b"u{1}"),
            keys.pushes(tag, b"}x{"),
            keys.shadow_pushes(tag, b"}x{"),
            keys.erased(tag),
            keys.item_rows(tag),
            keys.catalogue(tag),
            keys.touched(tag),
        ]
        assert len({key_slot(key) for key in on_tag}) == 1
        assert len(set(on_tag)) == len(on_tag)


def test_tags_name_namespace_and_partition() -> None:
    assert Keys().user_tag(12) == b"{kairos:main:12}"
    assert Keys("b").item_tag(0) == b"{kairos:b:i0}"


@pytest.mark.parametrize("namespace", ["", "a{b", "a:b}", "x" * 101])
def test_a_namespace_that_would_break_the_tag_is_refused(namespace: str) -> None:
    with pytest.raises(ValueError, match="namespace"):
        Keys(namespace)
