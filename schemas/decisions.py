"""The decision: one record for each affected user, with every reason for a push or for silence."""

from typing import Literal

from msgspec import Struct, field
from msgspec.json import Decoder

from schemas.encoding import Message, cloud_event, rfc3339, to_json
from schemas.recommendations import Grade, Mode, Scores, Versions

EVENT_TYPE = "kairos.decision.v1"


class Step(Struct, frozen=True):
    """One rule that was looked at: what it saw, against which threshold, and whether the push may go on.

    A value that never was (no push yet, no purchase) is None.
    """

    stage: str
    rule: str
    passed: bool
    value: float | str | None = None
    threshold: float | str | None = None


class Chosen(Struct, frozen=True):
    """A candidate that was looked at last or sent; dedup_key is that of its record in recommendations.v1.

    because: of a sent one, what scores.final is owed to, in logits, which sum to its own.
    """

    item: str
    slot: int = 0
    dedup_key: str | None = None
    scores: Scores | None = None
    grade: Grade | None = None
    because: dict[str, float] = field(default_factory=dict)


class Decision(Struct, frozen=True, kw_only=True):
    """How one affected user ended; the last step that did not pass says why there was no push.

    outcome: "sent", "held" (tried again at retry_ms) or "refused". The candidates carry decision_id as their
    correlation id. waited_ms: how long the user waited, by place.
    """

    decision_id: str
    user: str
    ts_ms: int
    outcome: Literal["sent", "held", "refused"]
    steps: list[Step]
    chosen: list[Chosen] = field(default_factory=list)
    candidates: int | None = None
    retry_ms: int | None = None
    versions: Versions
    waited_ms: dict[str, float] = field(default_factory=dict)
    mode: Mode
    run_id: str


_decode = Decoder(Decision).decode


def encode(decision: Decision, source: str) -> Message:
    """The record for decisions.v1; source names the installation, for instance "/kairos/main"."""
    headers = cloud_event(
        id=decision.decision_id,
        source=source,
        type=EVENT_TYPE,
        subject=decision.user,
        time=rfc3339(decision.ts_ms),
        partitionkey=decision.user,
        correlationid=decision.decision_id,
    )
    return Message(decision.user.encode(), to_json(decision), [*headers, ("kairos-mode", decision.mode.encode())])


def decode(value: bytes) -> Decision:
    """A decision from a record's value; unknown fields are ignored. Raises msgspec.DecodeError."""
    return _decode(value)
