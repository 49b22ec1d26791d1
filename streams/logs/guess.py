"""Guesses the mapping of a log by the names of its columns and by what they hold, and writes it as TOML."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.faults import in_ms
from streams.features.declaration import DEFAULT
from streams.logs.columns import Lines, event_times_ms, number_column, text_column, zoned_stamps
from streams.logs.pieces import Form

EVENT_NAMES: Dict[str, Sequence[str]] = {
    "user_id": (
        "userid", "user", "customerid", "customer", "personid", "person", "visitorid", "visitor", "memberid", "member",
        "shopperid", "buyerid", "clientid", "accountid", "householdid", "profileid", "uid", "who",
    ),
    "item_id": (
        "itemid", "item", "productid", "product", "stockcode", "sku", "articleid", "article", "contentid", "content",
        "goodsid", "offerid", "variantid", "asin", "movieid", "pid", "what",
    ),
    "event_id": ("eventid", "messageid", "uuid", "eventuuid"),
    "session": ("session", "sessionid", "usersession", "visitid", "basketid", "invoice", "invoiceno", "orderid"),
    "quantity": ("quantity", "qty", "units"),
    "price": ("price", "unitprice", "salesprice", "saleprice"),
    "currency": ("currency", "currencycode"),
    "dwell_ms": ("dwellms", "dwelltimems"),
    "query": ("query", "searchquery", "searchterm", "keyword"),
    "page": ("page", "pagetype"),
    "campaign": ("campaign", "campaignid", "utmcampaign"),
}  # fmt: skip
SCENE_NAMES: Dict[str, Sequence[str]] = {
    "user_agent": ("useragent", "agent", "ua"), "device": ("device", "devicetype"), "os": ("os", "operatingsystem"),
    "app": ("app", "channel"), "network": ("network", "connection"),
    "region": ("region", "country", "countrycode", "userregion"),
    "zone": ("zone", "timezone", "tz"), "locale": ("locale", "lang", "language"), "weather": ("weather",),
    "temperature_c": ("temperaturec", "temperature"), "place": ("place",), "lat": ("lat", "latitude"),
    "lon": ("lon", "lng", "longitude"),
}  # fmt: skip
ITEM_NAMES: Dict[str, Sequence[str]] = {
    "title": ("title", "description", "productname", "itemname", "name"),
    "category": ("category", "categorycode", "categoryid", "department"), "brand": ("brand", "manufacturer"),
}  # fmt: skip
TIME_NAMES = (
    "tsms", "timestamp", "ts", "eventtime", "eventtimestamp", "datetime", "time", "invoicedate", "createdat",
    "occurredat", "transactiontimestamp", "orderdate", "date", "at", "when",
)  # fmt: skip
KIND_NAMES = ("kind", "eventtype", "event", "eventname", "action", "actiontype", "behaviortype", "behavior", "type")
KIND_WORDS = (
    ("return", r"return|refund|cancel"),
    ("add-to-cart", r"cart|basket|bookmark|fav|wish"),
    ("purchase", r"purchase|buy|bought|order|transaction|checkout|paid|sale"),
    ("browse", r"view|browse|impression|visit|show|^pv$|detail"),
    ("click", r"click|tap|select|like|comment|follow|share|open"),
)
REMOVED = re.compile(r"remove|delete|undo|^un", re.IGNORECASE)
"""Words that take something back: they are no sign of interest, and no event of ours says them."""
USUAL = frozenset(kind.wire for kind in DEFAULT.kinds)
"""Words of every shop's events."""
MOST_KINDS = 60
UNITS = {"seconds": "s", "milliseconds": "ms", "microseconds": "us"}


@dataclass
class Guess:
    """A mapping as TOML, and what a person should know of it; `missing` names what no column was found for."""

    toml: str = ""
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def guess(lines: Lines, name: str, kinds: Collection[str], form: Form | None = None) -> Guess:
    """The mapping of a log whose beginning is `lines`; `kinds` are the words that events may have."""
    made, form, free = Guess(), form or Form(), FreeColumns(lines)
    time = free.take(TIME_NAMES) or next((c for c in free.left if _unit(lines, c)[1] > 0.95), None)
    event = free.take_all(EVENT_NAMES)
    kind = free.take(KIND_NAMES)
    scene, item = free.take_all(SCENE_NAMES), free.take_all(ITEM_NAMES)
    if time is None:
        made.missing.append("a time")
    made.missing += [word for name, word in (("user_id", "a user"), ("item_id", "an item")) if name not in event]
    if made.missing:
        made.notes.append(f"No column looks like {' or '.join(made.missing)}: columns are {', '.join(lines.names)}.")
        return made
    parts = [f"name = {_text(name)}", *_time(lines, str(time), made)]
    for title, sources in (("event", event), ("scene", scene), ("item", item)):
        if sources:
            parts += ["", f"[{title}]", *[f"{to} = {_text(column)}" for to, column in sources.items()]]
    if "price" in event:
        parts += [] if item else ["", "[item]"]
        parts.append(f"price = {_text(event['price'])}")
    parts += _kinds(lines, kind, event.get("quantity"), kinds, made)
    if form != Form():
        parts += ["", "[file]", f"encoding = {_text(form.encoding)}", f"delimiter = {_text(form.delimiter)}"]
    if free.left:
        made.notes.append(f"Not used: {', '.join(free.left)}.")
    made.toml = "\n".join([*parts, ""])
    return made


class FreeColumns:
    """The columns of a log, each taken by one field at most."""

    def __init__(self, lines: Lines) -> None:
        self.left = [name for name in lines.names if not _nested(lines, name)]

    def take(self, names: Sequence[str]) -> str | None:
        """The column whose plain name comes first in `names`."""
        plain = {re.sub(r"[^a-z0-9]", "", column.lower()): column for column in reversed(self.left)}
        for name in names:
            if name in plain:
                self.left.remove(plain[name])
                return plain[name]
        return None

    def take_all(self, fields: Dict[str, Sequence[str]]) -> dict[str, str]:
        """Columns by the field that they are taken for."""
        found = {to: self.take(names) for to, names in fields.items()}
        return {to: column for to, column in found.items() if column is not None}


def kind_of(word: str, kinds: Collection[str]) -> str | None:
    """The kind that a shop's own word means, None where none fits."""
    said = re.sub(r"[\s_]+", "-", re.sub(r"(?<=[a-z])(?=[A-Z])", "-", word.strip())).lower()
    if said in kinds:
        return said
    if REMOVED.search(word):
        return None
    # What a shop declares itself comes before the words of many shops: where "wishlist" is declared, it is no cart.
    own = [kind for kind in sorted(kinds, key=len, reverse=True) if kind not in USUAL and f"-{kind}-" in f"-{said}-"]
    usual = [kind for kind, words in KIND_WORDS if kind in kinds and re.search(words, said)]
    return next(iter([*own, *usual]), None)


def _time(lines: Lines, column: str, made: Guess) -> list[str]:
    unit, share = _unit(lines, column)
    if share < 0.9:
        made.notes.append(f"Only {share:.0%} of {column} are times ({unit}): see `time.unit` and `time.zone`.")
    if unit == "text" and not zoned_stamps(lines[column].dropna().head(1_000)).all():
        made.notes.append(f"The stamps of {column} carry no zone: UTC is assumed, set `time.zone` to the shop's.")
    return ["", "[time]", f"column = {_text(column)}", f"unit = {_text(unit)}"]


def _unit(lines: Lines, column: str) -> tuple[str, float]:
    """The unit of a column of times, and for which share of its values it holds."""
    texts = text_column(lines[column])
    present = int((texts != None).sum()) or 1  # noqa: E711  (element by element)
    numbers = number_column(texts)
    found = Counter(in_ms(value)[0] for value in numbers[np.isfinite(numbers)].tolist())
    found.pop("", None)
    if found:
        unit, count = found.most_common(1)[0]
        return UNITS[unit], count / present
    try:
        times_ms = event_times_ms(lines[column], "text", "UTC")
    except (ValueError, TypeError, AttributeError):
        return "text", 0.0
    return "text", int((times_ms > 0).sum()) / present


def _kinds(lines: Lines, column: str | None, quantity: str | None, kinds: Collection[str], made: Guess) -> list[str]:
    if column is not None:
        return _kinds_of_words(lines, column, kinds, made)
    if quantity is not None:
        made.notes.append(f"No column names the kind: a positive {quantity} is a purchase, a negative one a return.")
        return [*_rule("return", quantity, "below = 0"), *_rule("purchase", quantity, "above = 0")]
    made.notes.append("No column names the kind, so every line is a click: change that where it is not so.")
    return ["", "[[kind]]", 'kind = "click"']


def _kinds_of_words(lines: Lines, column: str, kinds: Collection[str], made: Guess) -> list[str]:
    words = Counter(word for word in lines.texts(column).tolist() if word is not None)
    by_kind: dict[str, list[str]] = {}
    for word, count in words.most_common(MOST_KINDS):
        kind = kind_of(word, kinds)
        if kind is None:
            made.notes.append(f"{column} = {word} ({count:,} lines of the first) has no kind: its lines are left out.")
        else:
            by_kind.setdefault(kind, []).append(word)
    if not by_kind:
        made.notes.append(f"No value of {column} names a kind that is known: write the [[kind]] rules yourself.")
        return ["", "[[kind]]", 'kind = "click"']
    rules: list[str] = []
    for kind, chosen in by_kind.items():
        words_of = "|".join(re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", word) for word in chosen)
        pattern = f"^({words_of})$" if len(chosen) > 1 else f"^{words_of}$"
        rules += _rule(kind, column, f"matches = {_text(pattern)}")
    return rules


def _rule(kind: str, column: str, condition: str) -> list[str]:
    return ["", "[[kind]]", f"kind = {_text(kind)}", f"column = {_text(column)}", condition]


def _nested(lines: Lines, column: str) -> bool:
    """Whether a column holds objects or lists, which a mapping cannot reach into."""
    head: list[Any] = lines[column].head(1_000).tolist()
    return any(isinstance(value, (dict, list)) for value in head)


def _text(value: str) -> str:
    """A TOML string."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
