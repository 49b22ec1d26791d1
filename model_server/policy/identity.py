"""The keys by which a gateway recognises a candidate: one for doubles, one for what a newer candidate replaces."""

from hashlib import blake2b


def dedup_key(user: str, row: bytes, model: str, slot: int) -> str:
    """Same user, same row, same model, same slot: the same candidate, however often it is scored (32 hex digits)."""
    text = f"{user}\0{model}\0{slot}\0".encode()
    return blake2b(text + blake2b(row, digest_size=16).digest(), digest_size=16).hexdigest()


def collapse_key(user: str, slot: int) -> str:
    """Stable for a user and a slot: a newer candidate replaces an unread one (at most 64 bytes, as APNs asks)."""
    return f"kairos-{slot}-{blake2b(user.encode(), digest_size=12).hexdigest()}"
