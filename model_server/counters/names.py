"""The names of the counters, generated from the declaration: adding a window or a scene field adds its counters."""

from collections.abc import Sequence
from itertools import accumulate, chain, pairwise

from model_server.retrieval.titles import TITLES as TITLE_LIST
from streams.features.declaration import DEFAULT, Declaration

OWN = (
    "own_n", "own_d1", "own_d7", "own_d30", "own_closeness",
    "own_share", "own_since", "own_strong", "own_session", "own_gap_ratio",
)  # fmt: skip
CATEGORY = ("category_n", "category_d30", "category_share", "category_closeness")
TOGETHER = ("together_sum", "together_max", "together_last", "next_sum", "next_max", "next_last", "sessions_like")
PRICE = ("price", "price_distance")
TITLES = ("title_greatest", "title_mean", "title_newest")
REQUEST = (
    "user_events", "user_closeness", "user_history", "user_repeat", "user_strong", "user_session",
    "hour_sin", "hour_cos", "weekend",
)  # fmt: skip


def item_names(declaration: Declaration) -> tuple[str, ...]:
    """Counters of an item alone, before any user asks."""
    windows = [w.name for w in declaration.windows]
    return (
        *(f"item_{name}" for name in windows),
        "item_all",
        *(f"trend_{short}_{long}" for short, long in pairwise(windows)),
        "item_age",
        "item_closeness",
        *(f"strong_{name}" for name in windows[-2:]),
        "strong_rate",
        "item_repeat",
    )


def scene_names(declaration: Declaration) -> tuple[str, ...]:
    """Counters of an item under the scene of the request: by how much oftener it is wanted there than everything is."""
    return tuple(f"scene_lift_{name}" for name in declaration.profile_names)


def _parts(declaration: Declaration, lists: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The counters by what computes them, in the order of the last axis; those of titles where a list reads them."""
    return {
        "item": item_names(declaration),
        "scene": scene_names(declaration),
        "own": OWN,
        "category": CATEGORY,
        "together": TOGETHER[:3],
        "following": TOGETHER[3:6],
        "alike": TOGETHER[6:],
        "price": PRICE,
        "titles": TITLES if TITLE_LIST in lists else (),
        "lists": tuple(f"list_{name}".replace(" ", "_") for name in lists),
        "request": REQUEST,
    }


def counter_names(declaration: Declaration, lists: Sequence[str]) -> tuple[str, ...]:
    """Every counter of a candidate, in the order of the last axis."""
    return tuple(chain.from_iterable(_parts(declaration, lists).values()))


def places(declaration: Declaration, lists: Sequence[str]) -> dict[str, slice]:
    """Where the counters of each part lie in the last axis."""
    parts = _parts(declaration, lists)
    ends = list(accumulate(map(len, parts.values())))
    return {part: slice(start, end) for part, start, end in zip(parts, [0, *ends], ends, strict=False)}


def default_names() -> tuple[str, ...]:
    """The counters of the default declaration and the default lists."""
    from model_server.retrieval.retriever import Retriever

    return counter_names(DEFAULT, Retriever(DEFAULT).names)
