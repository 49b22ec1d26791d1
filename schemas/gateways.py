"""From a push candidate to the requests of FCM, APNs and Web Push: pure mappings that refuse what must not be sent."""

import base64
import hashlib
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from schemas.recommendations import Recommendation

FCM_LONGEST_TTL_S = 2_419_200  # four weeks
APNS_PAYLOAD_BYTES = 4096
WEB_PUSH_PAYLOAD_BYTES = 3993  # what is left of 4,096 after encryption
APNS_COLLAPSE_BYTES = 64

_NAMESPACE = uuid.UUID("4a6f0bd5-6f0f-5f0c-9a0a-6b6169726f73")
_URGENCY = {"passive": "low", "active": "normal", "time-sensitive": "high"}


class NotSendable(ValueError):
    """A candidate that must not go out (now); the text says why and what to do with it."""


class Text(NamedTuple):
    """What the user reads."""

    title: str
    body: str


class Request(NamedTuple):
    """Headers and body of the gateway's HTTP request."""

    headers: dict[str, str]
    body: bytes


def default_text(candidate: Recommendation) -> Text:
    """The item's title and price, for gateways without templates."""
    item = candidate.item
    price = "" if item.price is None else f"{item.price:.2f} {item.currency or ''}".strip()
    return Text(item.title or item.id, price)


def fcm(candidate: Recommendation, token: str, now_ms: int, text: Text | None = None) -> dict[str, Any]:
    """The body of FCM's HTTP v1 `messages:send`. Its `data` holds texts only, as FCM demands."""
    ttl_s = min(_ttl_s(candidate, now_ms), FCM_LONGEST_TTL_S)
    title, body = text or default_text(candidate)
    image = {"image": candidate.item.image} if candidate.item.image else {}
    return {
        "message": {
            "token": token,
            "notification": {"title": title, "body": body, **image},
            "data": _data(candidate),
            "android": {
                "collapse_key": candidate.collapse_key,
                "priority": candidate.priority.upper(),
                "ttl": f"{ttl_s}s",
                "notification": {"tag": candidate.collapse_key},
            },
        }
    }


def apns(candidate: Recommendation, bundle: str, now_ms: int, text: Text | None = None) -> Request:
    """APNs' headers and payload; the body text is cut where the payload would exceed 4 KB."""
    _ttl_s(candidate, now_ms)
    if len(candidate.collapse_key.encode()) > APNS_COLLAPSE_BYTES:
        msg = f"The collapse key of {candidate.dedup_key} has more than {APNS_COLLAPSE_BYTES} bytes."
        raise NotSendable(msg)
    headers = {
        "apns-topic": bundle,
        "apns-push-type": "alert",
        "apns-id": str(uuid.uuid5(_NAMESPACE, candidate.dedup_key)),
        "apns-priority": "10" if candidate.priority == "high" else "5",
        "apns-expiration": str(candidate.expires_ms // 1000),
        "apns-collapse-id": candidate.collapse_key,
    }

    def payload(shown: Text) -> bytes:
        aps = {
            "alert": {"title": shown.title, "body": shown.body},
            "relevance-score": candidate.relevance,
            "interruption-level": candidate.interruption,
            **({"mutable-content": 1} if candidate.item.image else {}),
        }
        return orjson.dumps({"aps": aps, **_data(candidate)})

    return Request(headers, _fitted(payload, text or default_text(candidate), APNS_PAYLOAD_BYTES))


def web_push(candidate: Recommendation, now_ms: int, text: Text | None = None) -> Request:
    """Web Push's headers and the payload to encrypt, cut to what fits one record."""
    topic = base64.urlsafe_b64encode(hashlib.blake2b(candidate.collapse_key.encode(), digest_size=24).digest())
    headers = {
        "TTL": str(_ttl_s(candidate, now_ms)),
        "Urgency": _URGENCY[candidate.interruption],
        "Topic": topic.decode(),
    }

    def payload(shown: Text) -> bytes:
        image = {"image": candidate.item.image} if candidate.item.image else {}
        return orjson.dumps({"title": shown.title, "body": shown.body, **image, "data": _data(candidate)})

    return Request(headers, _fitted(payload, text or default_text(candidate), WEB_PUSH_PAYLOAD_BYTES))


def _ttl_s(candidate: Recommendation, now_ms: int) -> int:
    if candidate.mode != "live":
        msg = f"The candidate {candidate.dedup_key} is of mode {candidate.mode}: only live ones are sent."
    elif candidate.status == "retracted":
        msg = f"The candidate {candidate.dedup_key} is retracted: drop what waits under {candidate.collapse_key}."
    elif candidate.exploration is not None and candidate.exploration.hold_back:
        msg = f"The candidate {candidate.dedup_key} belongs to the hold-back group: count it, do not send it."
    elif candidate.expires_ms <= now_ms:
        msg = f"The candidate {candidate.dedup_key} expired {now_ms - candidate.expires_ms} ms ago: drop it."
    elif candidate.not_before_ms is not None and now_ms < candidate.not_before_ms:
        msg = f"The candidate {candidate.dedup_key} is {candidate.not_before_ms - now_ms} ms early: hold it."
    else:
        return (candidate.expires_ms - now_ms) // 1000
    raise NotSendable(msg)


def _data(candidate: Recommendation) -> dict[str, str]:
    fields = {
        "item_id": candidate.item.id,
        "link": candidate.item.link,
        "campaign": candidate.item.campaign,
        "template": candidate.template,
        "variant": candidate.variant,
        "dedup_key": candidate.dedup_key,
        "decision_id": candidate.decision_id,
    }
    return {name: text for name, text in fields.items() if text is not None}


def _fitted(payload: Callable[[Text], bytes], text: Text, limit_bytes: int) -> bytes:
    # The longest body that fits, by bisection: JSON escapes make bytes a matter of the characters.
    fitting, too_long = -1, len(text.body) + 1
    while too_long - fitting > 1:
        middle = (fitting + too_long) // 2
        if len(payload(_cut(text, middle))) <= limit_bytes:
            fitting = middle
        else:
            too_long = middle
    if fitting < 0:
        msg = f"The payload exceeds {limit_bytes} bytes even without its body: shorten title, link or image."
        raise NotSendable(msg)
    return payload(_cut(text, fitting))


def _cut(text: Text, characters: int) -> Text:
    whole = characters >= len(text.body)
    return text if whole else Text(text.title, text.body[: max(characters - 1, 0)] + "\u2026")
