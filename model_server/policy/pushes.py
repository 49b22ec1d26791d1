"""The push log of one user: what was sent, newest last, and what must be taken back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

KEPT = 32


@dataclass(frozen=True, slots=True)
class Push:
    """One candidate that was sent: `code` is the item's 64-bit code, `retracted` says that it was taken back."""

    item: str
    code: int
    ts_ms: int
    expires_ms: int
    dedup_key: str
    collapse_key: str
    slot: int
    retracted: bool = False


Log = tuple[Push, ...]


def decode(blob: bytes | None) -> Log:
    """The log in a blob, newest last; empty for None. Raises ValueError on bytes that are no log."""
    if not blob:
        return ()
    try:
        return tuple(Push(**{**entry, "code": int(entry["code"])}) for entry in orjson.loads(blob))
    except (TypeError, KeyError) as error:
        text = f"a push log cannot be read ({error}): delete the key that ends in ':p:' and the user's id"
        raise ValueError(text) from error


def encode(log: Sequence[Push]) -> bytes:
    """The blob of the newest `KEPT` entries. Codes are text: they do not fit the 53 bits other readers keep."""
    return orjson.dumps(
        [
            {
                "item": push.item,
                "code": str(push.code),
                "ts_ms": push.ts_ms,
                "expires_ms": push.expires_ms,
                "dedup_key": push.dedup_key,
                "collapse_key": push.collapse_key,
                "slot": push.slot,
                "retracted": push.retracted,
            }
            for push in log[-KEPT:]
        ]
    )


def together(blobs: Sequence[bytes | None]) -> bytes | None:
    """The one log of several that were kept of a user, in turn, in namespaces that followed on each other."""
    told = [blob for blob in blobs if blob]
    if len(told) < 2:
        return told[0] if told else None
    pushes: dict[str, Push] = {}
    for push in (push for blob in told for push in decode(blob)):
        known = pushes.get(push.dedup_key, push)
        pushes[push.dedup_key] = replace(push, retracted=push.retracted or known.retracted)
    return encode(sorted(pushes.values(), key=lambda push: push.ts_ms))


class PushColumns(NamedTuple):
    """Push logs of U users as columns, newest last: code u64[U, P], ts_ms i64[U, P], 0 where there is none."""

    code: NDArray[np.uint64]
    ts_ms: NDArray[np.int64]


def columns(logs: Sequence[Log]) -> PushColumns:
    """The logs of U users side by side, as wide as the longest (at least 1)."""
    width = max((len(log) for log in logs), default=0) or 1
    code, ts_ms = np.zeros((len(logs), width), np.uint64), np.zeros((len(logs), width), np.int64)
    for row, log in enumerate(logs):
        if log:
            code[row, : len(log)] = [push.code for push in log]
            ts_ms[row, : len(log)] = [push.ts_ms for push in log]
    return PushColumns(code, ts_ms)


class Retraction(NamedTuple):
    """A push to take back, and why."""

    push: Push
    rule: str


def retractions(
    log: Log, bought: Sequence[tuple[int, int]], *, opted_out: bool, now_ms: int, bought_window_ms: int
) -> list[Retraction]:
    """Pushes still alive whose reason is gone: the user opted out, or bought the item.

    `bought`: (item code, ts_ms) of the user's purchases. One that reached us only after the push was decided counts
    too, hence the window before the push: it is the one in which the rule `already_bought` would have refused it.
    """
    open_pushes = [push for push in log if push.expires_ms > now_ms and not push.retracted]
    if opted_out:
        return [Retraction(push, "opted_out") for push in open_pushes]
    return [
        Retraction(push, "bought")
        for push in open_pushes
        if any(code == push.code and ts_ms > push.ts_ms - bought_window_ms for code, ts_ms in bought)
    ]


def mark_retracted(log: Log, taken_back: Sequence[Retraction]) -> Log:
    """The log with these pushes marked."""
    gone = {retraction.push.dedup_key for retraction in taken_back}
    return tuple(replace(push, retracted=True) if push.dedup_key in gone else push for push in log)
