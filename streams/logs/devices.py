"""The scene a raw user agent tells: device, operating system, and app or web; each distinct string is parsed once."""

from __future__ import annotations

from functools import lru_cache

_OS_PREFIXES = (
    ("ios", "ios"),
    ("android", "android"),
    ("windows", "windows"),
    ("mac os", "macos"),
    ("harmony", "harmonyos"),
    ("linux", "linux"),
    ("ubuntu", "linux"),
    ("fedora", "linux"),
    ("debian", "linux"),
    ("chrome os", "linux"),
)


@lru_cache(maxsize=65_536)
def scene_of_user_agent(user_agent: str) -> tuple[tuple[str, str], ...]:
    """Pairs (scene field, value) for device, os and app; needs the `train` extra (about a millisecond a new string)."""
    from user_agents import parse

    parsed = parse(user_agent)
    browser = user_agent.startswith(("Mozilla/", "Opera/"))
    # An application's own agent ("iOS - Native Mobile App") names the system where a browser would name itself.
    system = str(parsed.os.family).lower()
    system = user_agent.lower() if system == "other" else system
    os = next((name for prefix, name in _OS_PREFIXES if system.startswith(prefix)), "other")
    return (("device", _device(parsed, os, browser)), ("os", os), ("app", "web" if browser else "app"))


def _device(parsed: object, os: str, browser: bool) -> str:
    for device, flag in (("tablet", "is_tablet"), ("phone", "is_mobile"), ("desktop", "is_pc")):
        if browser and getattr(parsed, flag):
            return device
    return {"ios": "phone", "android": "phone"}.get(os, "other")
