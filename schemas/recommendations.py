"""The push candidate: everything a gateway needs to send it, or to take it back, without a look-up."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.json import Decoder

from schemas.encoding import Message, cloud_event, rfc3339, to_json

Share = Annotated[float, Meta(ge=0, le=1)]
Mode = Literal["live", "rebuild", "shadow", "dry-run"]
Grade = Literal["not_recommended", "recommended", "best_match"]
CollapseKey = Annotated[str, Meta(max_length=64)]  # APNs' limit is 64 bytes; ours are ASCII

EVENT_TYPE = "kairos.recommendation.v1"


class Recipient(Struct, frozen=True):
    """Who gets the push; zone is an IANA name, locale a BCP 47 tag."""

    id: str
    zone: str | None = None
    locale: str | None = None


class Offer(Struct, frozen=True):
    """The item as the catalogue had it when the candidate was decided; link opens it in the app."""

    id: str
    title: str | None = None
    image: str | None = None
    price: float | None = None
    currency: str | None = None
    link: str | None = None
    campaign: str | None = None


class QuietHours(Struct, frozen=True):
    """Local times hh:mm in which the user is not to be disturbed."""

    start: str
    end: str
    zone: str


class Caps(Struct, frozen=True):
    """The user's contact budget as it stood when deciding, this candidate not counted."""

    sent: int
    limit: int
    window_ms: int
    min_gap_ms: int
    last_sent_ms: int | None = None


class Guard(Struct, frozen=True):
    """What must still hold when the push goes out, what was seen, and the version of the evidence.

    rule: "in_stock", "price_at_most" or "not_bought"; evidence: where to look, for instance a catalogue time.
    """

    rule: str
    value: float | str | bool | None = None
    evidence: str | None = None


class Scores(Struct, frozen=True):
    """Probabilities, of the user who looks; final is what the candidates were ranked by.

    p_open: opens the push; p_buy, p_best: puts the item into the cart, buys it or the like; p_optout: wants no more
    pushes; p_rec: does anything with the item, never below p_best; p_anyway: comes anyway, without a push.
    """

    final: float
    p_open: Share | None = None
    p_buy: Share | None = None
    p_optout: Share | None = None
    p_rec: Share | None = None
    p_best: Share | None = None
    p_anyway: Share | None = None


class Versions(Struct, frozen=True):
    """Which model, feature declaration and policy took part."""

    model: str
    features: str
    policy: str


class Exploration(Struct, frozen=True):
    """How chance took part: the policy, this arm and its probability; a hold-back user's candidate is not sent."""

    policy: str
    propensity: Share
    arm: str | None = None
    hold_back: bool = False


class Recommendation(Struct, frozen=True, kw_only=True):
    """One push candidate for one slot of one user; every time is in ms since 1970 UTC.

    relevance: expected, 0.5 p_rec + 0.5 p_best; grade: what that comes to by the model's cut-offs.
    reasons: the lists that found the item; because: what scores.final is owed to, in logits, which sum to its own.
    status: "new", "updated" (replaces an unsent candidate with the same collapse_key) or "retracted" (do not send, and
    take back if possible). The same dedup_key is the same candidate: send it once. Adapters refuse any mode but "live".
    """

    dedup_key: str
    status: Literal["new", "updated", "retracted"]
    mode: Mode
    run_id: str
    decision_id: str
    decided_ms: int
    user: Recipient
    item: Offer
    slot: int = 0
    collapse_key: CollapseKey
    template: str | None = None
    variant: str | None = None
    priority: Literal["high", "normal"] = "normal"
    interruption: Literal["passive", "active", "time-sensitive"] = "active"
    relevance: Share
    grade: Grade | None = None
    not_before_ms: int | None = None
    expires_ms: int
    quiet_hours: QuietHours | None = None
    caps: Caps | None = None
    guards: list[Guard] = field(default_factory=list)
    scores: Scores | None = None
    versions: Versions
    exploration: Exploration | None = None
    reasons: list[str] = field(default_factory=list)
    because: dict[str, float] = field(default_factory=dict)
    waited_ms: dict[str, float] = field(default_factory=dict)


_decode = Decoder(Recommendation).decode


def encode(candidate: Recommendation, source: str) -> Message:
    """The record for recommendations.v1; source names the installation, for instance "/kairos/main"."""
    headers = cloud_event(
        id=f"{candidate.dedup_key}:{candidate.status}",
        source=source,
        type=EVENT_TYPE,
        subject=candidate.user.id,
        time=rfc3339(candidate.decided_ms),
        partitionkey=candidate.user.id,
        expirytime=rfc3339(candidate.expires_ms),
        correlationid=candidate.decision_id,
    )
    mode = ("kairos-mode", candidate.mode.encode())
    return Message(candidate.user.id.encode(), to_json(candidate), [*headers, mode])


def decode(value: bytes) -> Recommendation:
    """A candidate from a record's value; unknown fields are ignored. Raises msgspec.DecodeError."""
    return _decode(value)
