"""Lengths of time, sizes and counts in the words of people."""

from __future__ import annotations

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))
_SIZES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def span(ms: float) -> str:
    """A length of time in its two largest units, milliseconds below a second."""
    left, words = max(0, int(ms)), list[str]()
    if left < 1_000:
        return f"{left} ms"
    for unit, size in _UNITS:
        if left >= size and len(words) < 2:
            words.append(f"{left // size} {unit}")
            left %= size
    return " ".join(words)


def size(n_bytes: float) -> str:
    """A number of bytes with the unit that leaves one to four digits."""
    for unit, of in _SIZES:
        if n_bytes >= of:
            return f"{n_bytes / of:,.1f} {unit}"
    return f"{n_bytes:,.0f} bytes"
