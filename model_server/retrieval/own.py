"""What the user's own history says about items and categories, derived from the row's entries when read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.retrieval.pairs import F32, I32, I64, Pairs, grouped, reduced

if TYPE_CHECKING:
    from streams.features.declaration import Declaration
    from streams.features.view import UserView

DAY_S = 86_400.0


class Past(NamedTuple):
    """Histories newest first, [B, N]: item index (-1 unknown), category index (-1), kind, age in seconds, valid."""

    item: I32
    category: I32
    kind: NDArray[np.uint8]
    age_s: F32
    valid: NDArray[np.bool_]
    in_session: NDArray[np.bool_]


class Own(NamedTuple):
    """Pairs of (user, item) and (user, category) seen in the history, and the items a user did something with last.

    items: n, d1, d7, d30 (counts halved every 1, 7, 30 days), strong, session (counts), last_s, first_s (ages), since
    (entries newer than the newest one of this item). categories: n, d30, last_s. recent i32[B, R]: distinct items,
    newest first.
    """

    past: Past
    items: Pairs
    categories: Pairs
    recent: I32


def read_past(view: UserView, now_ms: I64, item: I32, category: I32) -> Past:
    """Histories of `view` at now_ms i64[B]; `item` i32[B, N] of the entries, `category` i32[M] of every item."""
    age_s = np.maximum((now_ms // 1000)[:, None] - view.ts_s, 0).astype(np.float32)
    known = view.valid & (item >= 0)
    session = view.in_session[:, None] & (view.ts_s * 1000 >= view.session_start_ms[:, None])
    of_item = category[np.maximum(item, 0)] if len(category) else np.full(item.shape, -1, np.int32)
    return Past(
        item=np.where(known, item, -1).astype(np.int32),
        category=np.where(known, of_item, -1).astype(np.int32),
        kind=view.kind,
        age_s=age_s,
        valid=view.valid,
        in_session=session & view.valid,
    )


def read_own(declaration: Declaration, past: Past, items: int, categories: int, recent: int) -> Own:
    """Own counts by item and category of so many `items` and `categories`; `recent`: width of the newest items."""
    pairs = _item_pairs(declaration, past, max(items, 1))
    return Own(
        past=past,
        items=pairs,
        categories=_category_pairs(past, max(categories, 1)),
        recent=pairs.top(len(past.item), -pairs.values["since"], recent),
    )


def _item_pairs(declaration: Declaration, past: Past, width: int) -> Pairs:
    user, column = np.nonzero(past.item >= 0)
    item = past.item[user, column]
    order, starts = grouped(user, item, width)
    item, user, column = item[order], user[order], column[order]
    age_s = past.age_s[user, column]
    strong = np.array([kind.strong for kind in declaration.kinds], np.float32)[past.kind[user, column]]
    ends = np.append(starts, len(order))[1:] - 1
    return Pairs(
        user[starts],
        item[starts].astype(np.int64),
        {
            "n": reduced(np.add, np.ones(len(order), np.float32), starts),
            "d1": reduced(np.add, np.exp2(age_s / np.float32(-DAY_S)), starts),
            "d7": reduced(np.add, np.exp2(age_s / np.float32(-7 * DAY_S)), starts),
            "d30": reduced(np.add, np.exp2(age_s / np.float32(-30 * DAY_S)), starts),
            "strong": reduced(np.add, strong, starts),
            "session": reduced(np.add, past.in_session[user, column].astype(np.float32), starts),
            "last_s": age_s[starts],
            "first_s": age_s[ends],
            "since": column[starts].astype(np.float32),
        },
    )


def _category_pairs(past: Past, width: int) -> Pairs:
    user, column = np.nonzero(past.category >= 0)
    category = past.category[user, column]
    order, starts = grouped(user, category, width)
    age_s, first = past.age_s[user, column][order], order[starts]
    return Pairs(
        user[first],
        category[first].astype(np.int64),
        {
            "n": reduced(np.add, np.ones(len(order), np.float32), starts),
            "d30": reduced(np.add, np.exp2(age_s / np.float32(-30 * DAY_S)), starts),
            "last_s": age_s[starts],
        },
    )
