"""What command lines have in common: a parser, and numbers that are refused with a sentence while they are read."""

import argparse

from streams.service import settings


def parser(name: str, about: str, *classes: type) -> argparse.ArgumentParser:
    """The parser of `kairos NAME`, with the variables that `classes` read at the end of its help."""
    return argparse.ArgumentParser(
        prog=f"kairos {name}",
        description=about,
        epilog=settings.help_text(*classes),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def whole_number(text: str) -> int:
    """From 1 up; thousands may be set apart by commas or underscores."""
    plain = text.replace(",", "").replace("_", "")
    if not plain.isdecimal() or int(plain) < 1:
        msg = f"{text} is no whole number from 1 up"
        raise argparse.ArgumentTypeError(msg)
    return int(plain)


def port(text: str) -> int:
    """A TCP port."""
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        msg = f"{text} is no port, which is a number from 1 to 65535"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def more_than_nothing(text: str) -> float:
    """Above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        msg = f"{text} is no number above 0"
        raise argparse.ArgumentTypeError(msg)
    return number
