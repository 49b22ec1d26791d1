"""What a producer copies from docs/events.md arrives where Kairos looks for it, and is read."""

import subprocess
import sys
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.events import decode_run
from schemas.items import decode_items
from schemas.partition import partition_of
from schemas.topics import Topics

GUIDE = Path(__file__).parents[2] / "docs" / "events.md"
PARTITIONS = 8
FOREVER_MS = 10**15


async def test_the_python_example_sends_what_kairos_reads(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    topics = Topics(topic_prefix)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (topics.clicks, topics.items)])
    await admin.close()

    script = tmp_path / "example.py"
    script.write_text(_example(kafka, topic_prefix))
    subprocess.run([sys.executable, "-W", "error", script], check=True, timeout=60)  # noqa: ASYNC221

    # Each record is looked for only where Kairos expects its key, so another partitioner would be found out.
    user, item = partition_of(b"user-42", PARTITIONS), partition_of(b"sku-7", PARTITIONS)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topics.clicks, user), TopicPartition(topics.items, item)])
        records = {record.topic: record for record in [await consumer.getone(), await consumer.getone()]}
    finally:
        await consumer.stop()
    run = decode_run(
        [records[topics.clicks]],
        kinds=topics.kinds[topics.clicks],
        now_ms=FOREVER_MS,
        max_skew_ms=0,
        horizon_ms=FOREVER_MS,
        home=(user, PARTITIONS),
    )
    assert list(zip(run.users, run.items, [scene and scene.zone for scene in run.scenes], strict=True)) == [
        ("user-42", "sku-7", "Europe/Berlin")
    ]
    entries = decode_items([records[topics.items]], home=(item, PARTITIONS))
    assert [entry.title for entry in entries.latest.values() if entry] == ["Red shoes"]


def _example(kafka: str, topic_prefix: str) -> str:
    """The guide's Python, pointed at the broker and the topics of this test."""
    example = GUIDE.read_text().split("```python\n")[1].split("```")[0]
    for name, real in {
        "127.0.0.1:9092": kafka,
        '"events.': f'"{topic_prefix}events.',
        '"items.': f'"{topic_prefix}items.',
    }.items():
        assert name in example
        example = example.replace(name, real)
    return example
