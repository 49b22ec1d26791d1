"""What a training reads of the topics is all that they hold, whatever the client does first."""

from pathlib import Path

import pytest

from model_server.training.topics import read_topics
from streams.service import settings
from streams.settings import Tools
from tests.installation import Installation, events

TIMES = 25
"""Of which a third read nothing where the reader went to the beginning by a reset, not by an offset."""


@pytest.mark.timeout(180)
async def test_every_reading_begins_at_the_beginning(
    kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    installation = Installation(kafka, redis_url, topic_prefix, namespace, tmp_path)
    await installation.set_up()
    sent = events(installation.topics, 500)
    await installation.send(sent)
    connections = settings.read(Tools, installation.env).connections
    read = [await read_topics(connections, lambda _: lambda _: None) for _ in range(TIMES)]
    assert {len(found) for found, _ in read} == {len(sent)}
