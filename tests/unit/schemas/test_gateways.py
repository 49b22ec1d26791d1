"""Gateway requests respect each gateway's limits, and nothing that must not go out gets one."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from schemas.gateways import NotSendable, Text, apns, fcm, web_push
from schemas.recommendations import Exploration, Offer
from tests.unit.schemas.test_outgoing import CANDIDATE, NOW_MS

SEND: dict[str, Callable[..., Any]] = {
    "fcm": lambda candidate, now_ms=NOW_MS: fcm(candidate, "token", now_ms),
    "apns": lambda candidate, now_ms=NOW_MS: apns(candidate, "shop.app", now_ms),
    "web push": lambda candidate, now_ms=NOW_MS: web_push(candidate, now_ms),
}


@pytest.mark.parametrize("gateway", SEND)
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"mode": "shadow"}, "only live"),
        ({"mode": "rebuild"}, "only live"),
        ({"mode": "dry-run"}, "only live"),
        ({"status": "retracted"}, "retracted"),
        ({"expires_ms": NOW_MS}, "expired"),
        ({"not_before_ms": NOW_MS + 1}, "early"),
        ({"exploration": Exploration("holdback", 0.1, hold_back=True)}, "hold-back"),
    ],
)
def test_what_must_not_go_out_is_refused(gateway: str, change: dict[str, Any], why: str) -> None:
    with pytest.raises(NotSendable, match=why):
        SEND[gateway](replace(CANDIDATE, **change))


def test_fcm_data_holds_texts_only_and_the_time_to_live_is_bounded() -> None:
    message = fcm(replace(CANDIDATE, expires_ms=NOW_MS + 10**12), "token", NOW_MS)["message"]
    assert all(isinstance(value, str) for value in message["data"].values())
    assert message["android"]["ttl"] == "2419200s"
    assert message["android"]["collapse_key"] == CANDIDATE.collapse_key
    assert message["android"]["priority"] == "HIGH"
    assert message["notification"] == {"title": "红鞋", "body": "19.99 CNY", "image": "http://x/i.png"}


def test_apns_headers_name_expiry_collapse_and_a_stable_id() -> None:
    first, second = (apns(CANDIDATE, "shop.app", NOW_MS + later).headers for later in (0, 5000))
    assert first == second
    assert first["apns-expiration"] == str(CANDIDATE.expires_ms // 1000)
    assert first["apns-collapse-id"] == CANDIDATE.collapse_key
    assert first["apns-priority"] == "10"
    aps = orjson.loads(apns(CANDIDATE, "shop.app", NOW_MS).body)["aps"]
    assert (aps["relevance-score"], aps["interruption-level"]) == (0.7, "active")


def test_a_collapse_key_too_long_for_apns_is_refused() -> None:
    with pytest.raises(NotSendable, match="collapse key"):
        apns(replace(CANDIDATE, collapse_key="é" * 40), "shop.app", NOW_MS)


@pytest.mark.parametrize("limit_bytes", [4096, 3993], ids=["apns", "web push"])
def test_a_long_body_is_cut_to_the_payload_limit(limit_bytes: int) -> None:
    text = Text("title", '\u5546"\n' * 3000)
    request = apns(CANDIDATE, "b", NOW_MS, text) if limit_bytes == 4096 else web_push(CANDIDATE, NOW_MS, text)
    assert limit_bytes - 10 < len(request.body) <= limit_bytes
    assert orjson.loads(request.body)


def test_a_title_that_alone_exceeds_the_limit_is_refused() -> None:
    with pytest.raises(NotSendable, match="shorten"):
        apns(CANDIDATE, "shop.app", NOW_MS, Text("x" * 5000, ""))


def test_web_push_headers_fit_the_standard() -> None:
    headers = web_push(CANDIDATE, NOW_MS).headers
    assert headers["TTL"] == "3600"
    assert headers["Urgency"] == "normal"
    assert len(headers["Topic"]) == 32


def test_an_item_without_a_catalogue_entry_still_makes_a_push() -> None:
    message = fcm(replace(CANDIDATE, item=Offer("i9")), "token", NOW_MS)["message"]
    assert message["notification"] == {"title": "i9", "body": ""}
