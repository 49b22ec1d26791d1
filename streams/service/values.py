"""The value that the text of a variable stands for, by the type of its setting."""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin


def converter(kind: Any) -> Callable[[str], Any]:
    """What reads a value of that type, which may be optional; it raises ValueError with the rest of a sentence."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not types.NoneType)
    if get_origin(kind) is Literal:
        return lambda text: _choice(text, get_args(kind))
    converters: dict[Any, Callable[[str], Any]] = {str: str, int: _whole, float: _number, bool: _switch, Path: _file}
    return converters[kind]


def _choice(text: str, choices: tuple[str, ...]) -> str:
    for choice in choices:
        if text.lower() == choice.lower():
            return choice
    msg = "is none of the choices"
    raise ValueError(msg)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        msg = "is not a whole number"
        raise ValueError(msg) from None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value - value != 0:
        msg = "is not a number"
        raise ValueError(msg)
    return value


def _switch(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        msg = "is neither true nor false"
        raise ValueError(msg)
    return words[text.lower()]


def _file(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        msg = "does not exist"
        raise ValueError(msg)
    return path
