"""The dead letter: the original bytes, with headers that say what failed, where and how often (KIP-1034).

Between the letters of a partition lie markers: records that say which letters were put back on their topics.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import orjson

from schemas.encoding import Header, Headers, Message
from schemas.faults import Reason

EXCEPTION = "__streams.errors.exception"
STACKTRACE = "__streams.errors.stacktrace"
MESSAGE = "__streams.errors.message"
TOPIC = "__streams.errors.topic"
PARTITION = "__streams.errors.partition"
OFFSET = "__streams.errors.offset"
REASON = "kairos-reason"
ATTEMPT = "kairos-attempt"
FIRST_FAILED = "kairos-first-failed-ms"
NULL_VALUE = "kairos-null-value"
COPY_OF = "kairos-copy-of"
REDRIVEN = "kairos-redriven"

OURS = frozenset({EXCEPTION, STACKTRACE, MESSAGE, TOPIC, PARTITION, OFFSET, REASON, ATTEMPT, FIRST_FAILED, NULL_VALUE})
"""Headers of a letter."""
MAX_MESSAGE_CHARACTERS = 1000
MAX_STACKTRACE_CHARACTERS = 8000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be used; key, value and headers are those it came with.

    attempt: how often it has failed, more than once after a re-drive; first_failed_ms: when it failed first.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: Reason
    detail: str
    first_failed_ms: int
    attempt: int = 1
    headers: Headers = field(default_factory=list)
    exception: str = ""
    stacktrace: str = ""


def bury(  # noqa: PLR0913 - a record's place and contents, all by keyword
    *,
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[Header],
    reason: Reason,
    detail: str,
    now_ms: int,
    exception: str = "kairos.Rejected",
    stacktrace: str = "",
) -> DeadLetter:
    """The dead letter of a record. One that was re-driven keeps its first time of failure and counts its attempts."""
    before = {name: text for name, text in headers if name in OURS}
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        key=key,
        value=value,
        reason=reason,
        detail=detail,
        first_failed_ms=_number(before.get(FIRST_FAILED), now_ms),
        attempt=_number(before.get(ATTEMPT), 0) + 1,
        headers=[(name, text) for name, text in headers if name not in OURS and name != COPY_OF],
        exception=exception,
        stacktrace=stacktrace,
    )


def encode(letter: DeadLetter) -> Message:
    """The record for events.dead-letters.v1; a null value is sent as no bytes and a header that says so."""
    about = {
        EXCEPTION: letter.exception,
        STACKTRACE: letter.stacktrace[:MAX_STACKTRACE_CHARACTERS],
        MESSAGE: letter.detail[:MAX_MESSAGE_CHARACTERS],
        TOPIC: letter.topic,
        PARTITION: str(letter.partition),
        OFFSET: str(letter.offset),
        REASON: letter.reason,
        ATTEMPT: str(letter.attempt),
        FIRST_FAILED: str(letter.first_failed_ms),
    }
    if letter.value is None:
        about[NULL_VALUE] = "true"
    headers = [(name, text.encode("utf-8", "replace")) for name, text in about.items()]
    return Message(letter.key, letter.value or b"", [*letter.headers, *headers])


def decode(key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> DeadLetter:
    """The dead letter in a record of events.dead-letters.v1; raises ValueError when its headers are missing."""
    about = {name: (text or b"").decode("utf-8", "replace") for name, text in headers if name in OURS}
    try:
        return DeadLetter(
            topic=about[TOPIC],
            partition=int(about[PARTITION]),
            offset=int(about[OFFSET]),
            key=key,
            value=None if NULL_VALUE in about else value,
            reason=about[REASON],  # type: ignore[arg-type] # a closed set when written; read as it is
            detail=about[MESSAGE],
            first_failed_ms=int(about[FIRST_FAILED]),
            attempt=int(about[ATTEMPT]),
            headers=[(name, text) for name, text in headers if name not in OURS],
            exception=about.get(EXCEPTION, ""),
            stacktrace=about.get(STACKTRACE, ""),
        )
    except (KeyError, ValueError) as error:
        msg = f"The record is no dead letter of Kairos, its headers lack or spoil {error}"
        raise ValueError(msg) from error


def redrive(letter: DeadLetter) -> Message:
    """The record to put back on its topic: the original, with the headers that count attempts and name its place."""
    ours = {
        ATTEMPT: str(letter.attempt),
        FIRST_FAILED: str(letter.first_failed_ms),
        COPY_OF: f"{letter.partition}:{letter.offset}",
    }
    return Message(letter.key, letter.value, [*letter.headers, *[(name, text.encode()) for name, text in ours.items()]])


def is_copy_within(partition: int, base: int, headers: Sequence[Header]) -> bool:
    """Whether a record is a re-driven copy of one in its own partition at offset `base` or above.

    The original says the same in the same place. Who reads the log from `base` on, under rules that may take what was
    refused once, counts the original and has to leave the copy out.
    """
    for name, text in headers:
        if name == COPY_OF:
            where, _, offset = (text or b"").partition(b":")
            return where == b"%d" % partition and _number(offset, -1) >= base
    return False


class Origin(NamedTuple):
    """The record that a letter is about: its place, and a digest of its contents should the topic be made anew.

    Letters of one origin are doubles, which a worker leaves that was killed after it had sent them.
    """

    topic: str
    partition: int
    offset: int
    digest: str


def origin(letter: DeadLetter) -> Origin:
    """The origin of a letter."""
    sizes = [-1 if part is None else len(part) for part in (letter.key, letter.value)]
    whole = b"%d,%d," % tuple(sizes) + (letter.key or b"") + (letter.value or b"")
    return Origin(letter.topic, letter.partition, letter.offset, blake2b(whole, digest_size=8).hexdigest())


def encode_marker(origins: Iterable[Origin]) -> Message:
    """The record that marks letters as re-driven; in their own partition, so that it is kept as long as they are."""
    by_topic: dict[str, list[tuple[int, int, str]]] = {}
    for topic, partition, offset, digest in origins:
        by_topic.setdefault(topic, []).append((partition, offset, digest))
    return Message(None, orjson.dumps(by_topic), [(REDRIVEN, b"true")])


def decode_marker(value: bytes | None, headers: Sequence[Header]) -> list[Origin] | None:
    """The origins that a marker names; None for a record that is no marker."""
    if not any(name == REDRIVEN for name, _ in headers):
        return None
    try:
        by_topic = _decode_origins(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return [Origin(topic, *place) for topic, places in by_topic.items() for place in places]


_decode_origins = msgspec.json.Decoder(dict[str, list[tuple[int, int, str]]]).decode


def _number(text: bytes | None, default: int) -> int:
    return int(text) if text is not None and text.isdigit() and len(text) < 20 else default
