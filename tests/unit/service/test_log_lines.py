"""Log lines carry their fields, in text and in JSON, and a chatty library is held back."""

import io
import logging
from collections.abc import Iterator

import orjson
import pytest

from streams.service import logs
from streams.tables.errors import TopicReplaced


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    before = logging.root.handlers[:], logging.root.level
    yield
    logging.captureWarnings(capture=False)
    logging.root.handlers[:], level = before
    logging.root.setLevel(level)


def test_json_lines_carry_extra_fields_and_exceptions() -> None:
    stream = io.StringIO()
    logs.setup("json", "info", stream)
    try:
        raise ValueError("bad")  # noqa: EM101
    except ValueError:
        logging.getLogger("kairos").exception("It failed: %d", 7, extra={"topic": "t", "parts": {1, 2}})
    line = orjson.loads(stream.getvalue())
    assert (line["level"], line["logger"], line["message"], line["topic"]) == ("error", "kairos", "It failed: 7", "t")
    assert line["parts"] == "{1, 2}"
    assert line["time"].endswith("+00:00")
    assert "ValueError: bad" in line["exception"]


def test_text_lines_carry_extra_fields() -> None:
    stream = io.StringIO()
    logs.setup("text", "info", stream)
    logging.getLogger("kairos").info("Applied", extra={"records": 5})
    assert stream.getvalue().endswith(" info    kairos: Applied records=5\n")


def crash(logger: str, error: Exception) -> None:
    try:
        raise error
    except type(error):
        logging.getLogger(logger).exception("Crashed reason=%r", error)


def test_a_refusal_is_told_once_and_without_a_traceback() -> None:
    stream = io.StringIO()
    logs.setup("text", "info", stream)
    refusal = TopicReplaced("events.clicks.v1", 0, "before", "now")
    crash("faust.tables.recovery", refusal)
    logging.getLogger("streams.worker").critical("%s", refusal)
    assert stream.getvalue().count("another topic") == 1
    assert "Traceback" not in stream.getvalue()


def test_a_fault_keeps_its_traceback_whoever_tells_it() -> None:
    stream = io.StringIO()
    logs.setup("text", "info", stream)
    crash("faust.tables.recovery", KeyError("gone"))
    crash("streams.worker", TopicReplaced("events.clicks.v1", 0, "before", "now"))
    assert stream.getvalue().count("Traceback") == 2


def test_the_level_decides() -> None:
    stream = io.StringIO()
    logs.setup("text", "warning", stream)
    logging.getLogger("kairos").info("quiet")
    logging.getLogger("kairos").warning("loud")
    assert stream.getvalue().count("\n") == 1


def test_a_chatty_library_says_the_same_once_in_ten_seconds_and_counts_the_rest() -> None:
    now_s = [0.0]
    repeats = logs.Repeats(clock=lambda: now_s[0])

    def said(name: str, line: int) -> logging.LogRecord | None:
        record = logging.LogRecord(name, logging.ERROR, "x.py", line, "away", (), None)
        return record if repeats.filter(record) else None

    assert said("aiokafka.conn", 1)
    assert [said("aiokafka.conn", 1) for _ in range(3)] == [None] * 3
    assert said("aiokafka.conn", 2)
    assert said("kairos", 1)
    assert said("kairos", 1)
    now_s[0] = 11
    again = said("aiokafka.conn", 1)
    assert again is not None
    assert vars(again)["held_back"] == 3
