"""The keys by which a gateway recognises a candidate: one for doubles, one for what a newer candidate replaces."""

from hashlib import blake2b


def dedup_key(user: str, item: str, before_ms: int) -> str:
    """Same user, same item, same last push of that item (0: none): the same candidate (32 hex digits).

    Not the row, the model or the slot: a user whose worker died between candidate and acknowledgement, or whose push
    log went back with Redis, is scored again with newer events, and the double must still be known for one.
    """
    return blake2b(f"{user}\0{item}\0{before_ms}".encode(), digest_size=16).hexdigest()


def collapse_key(user: str, slot: int) -> str:
    """Stable for a user and a slot: a newer candidate replaces an unread one (at most 64 bytes, as APNs asks)."""
    return f"kairos-{slot}-{blake2b(user.encode(), digest_size=12).hexdigest()}"
