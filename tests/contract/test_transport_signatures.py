"""The private parts of Faust, mode and aiokafka that the transport builds on are the ones it was written for."""

from __future__ import annotations

import ast
import inspect
import textwrap
from importlib.metadata import version
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState, TopicPartitionState
from aiokafka.record.default_records import DefaultRecord, DefaultRecordBatch
from faust.tables.recovery import Recovery
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from mode.services import Service

from streams.chunks.consumer import ChunkConsumer
from streams.chunks.thread import RebalanceListener, StampingThread
from streams.service.records import KeptRecords


def test_versions_are_the_pinned_ones() -> None:
    assert version("faust-streaming") == "0.15.3"
    assert version("mode-streaming") == "0.7.1"
    assert version("aiokafka") == "0.14.0"


OVERRIDDEN = [
    (ChunkConsumer, driver.Consumer, name)
    for name in (
        "_new_consumer_thread",
        "on_buffer_drop",
        "_wait_next_records",
        "getmany",
        "_new_offset",
        "verify_event_path",
        "perform_seek",
    )
] + [
    (StampingThread, driver.AIOKafkaConsumerThread, "__post_init__"),
    (StampingThread, driver.AIOKafkaConsumerThread, "call_thread"),
    (StampingThread, driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
    (StampingThread, driver.AIOKafkaConsumerThread, "_fetch_records"),
    (RebalanceListener, driver.ConsumerRebalanceListener, "on_partitions_revoked"),
    (RebalanceListener, driver.ConsumerRebalanceListener, "on_partitions_assigned"),
]


@pytest.mark.parametrize(("ours", "theirs", "name"), OVERRIDDEN)
def test_an_overridden_method_takes_what_the_stock_one_takes(ours: type, theirs: type, name: str) -> None:
    mine, stock = (list(inspect.signature(getattr(cls, name)).parameters) for cls in (ours, theirs))
    assert [name.replace("options", "kwargs") for name in mine] == stock
    assert name in vars(ours)


def _assigned(function: Any) -> set[str]:
    """Attributes of self that a function assigns."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


@pytest.mark.parametrize(
    ("function", "attributes"),
    [
        (
            AIOKafkaConsumer.__init__,
            {"_isolation_level", "_auto_offset_reset", "_fetch_max_wait_ms", "_fetch_min_bytes", "_closed", "_client"},
        ),
        (AIOKafkaConsumer.start, {"_fetcher", "_coordinator"}),
        (fetcher.Fetcher.__init__, {"_records", "_closed", "_subscriptions", "_fetch_task"}),
        (fetcher.FetchResult.__init__, {"_partition_records"}),
        (
            fetcher.PartitionRecords.__init__,
            {"_records", "_check_crcs", "_isolation_level", "_aborted_producers", "next_fetch_offset", "_tp"},
        ),
        (GroupCoordinator.__init__, {"_pending_exception", "_coordination_task", "generation"}),
        (AIOKafkaClient.__init__, {"_conns", "cluster"}),
        (TopicPartitionState.__init__, {"lso", "highwater"}),
        (faust_consumer.Consumer.__init__, {"_read_offset", "_acked", "_acked_index", "_committed_offset"}),
        (faust_consumer.Consumer._reset_state, {"_buffered_partitions", "_paused_partitions", "flow_active"}),
        (faust_consumer.ThreadDelegateConsumer.__init__, {"_thread"}),
    ],
)
def test_private_attributes_exist(function: Any, attributes: set[str]) -> None:
    assert attributes <= _assigned(function)


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (fetcher.Fetcher, ("_create_fetch_waiter", "_notify")),
        (fetcher.FetchResult, ("check_assignment", "_update_position")),
        (fetcher.FetchError, ("check_raise",)),
        (fetcher.PartitionRecords, ("_consume_aborted_up_to", "_contains_abort_marker")),
        (SubscriptionState, ("fetch_context", "reassignment_in_progress", "wait_for_assignment", "is_assigned")),
        (TopicPartitionState, ("has_valid_position", "position")),
        (AIOKafkaClient, ("_metadata_update",)),
        (AIOKafkaConnection, ("connected",)),
        (DefaultRecord, ("key", "value", "offset", "timestamp", "timestamp_type", "headers")),
        (DefaultRecordBatch, ("next_offset", "base_offset", "is_control_batch", "is_transactional", "producer_id")),
        (Recovery, ("_restart_recovery",)),
        (Service, ("crash", "should_stop", "beacon")),
        (faust_consumer.ConsumerThread, ("call_thread", "earliest_offsets", "highwaters")),
    ],
)
def test_private_methods_exist(owner: Any, names: tuple[str, ...]) -> None:
    assert [name for name in names if not hasattr(owner, name)] == []


def test_the_stock_consumer_reads_its_options_only_when_it_starts() -> None:
    source = inspect.getsource(AIOKafkaConsumer.start)
    for name in ("_isolation_level", "_auto_offset_reset", "_fetch_max_wait_ms", "_fetch_min_bytes"):
        assert f"self.{name}" in source


def test_the_stock_drain_still_drops_what_lies_below_a_read_offset() -> None:
    """Why read offsets must stay unknown: with one, a rewind would be dropped as already read."""
    source = inspect.getsource(faust_consumer.Consumer._drain_messages)
    assert "r_offset is None or offset >= r_offset" in source


def test_a_fetch_is_read_by_the_reader_that_keeps_its_bytes() -> None:
    """Else a header name that is no UTF-8 stops its partition for good; see `streams.service.records`."""
    assert "MemoryRecords(part_data[-1])" in inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert fetcher.MemoryRecords is KeptRecords
