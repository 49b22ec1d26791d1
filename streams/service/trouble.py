"""How trouble is told, and which trouble with Redis passes, so that the same call may work later: for both services."""

import asyncio
import re

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streams.service.redis import NotNowError

TROUBLE = (RedisError, RedisClusterException, OSError, asyncio.TimeoutError)
"""Everything a call to Redis can raise."""

_PASSING = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ClusterError,
    MovedError,
    NoScriptError,  # forgotten again between its loading and its call
    NotNowError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    TryAgainError,
    OSError,
    asyncio.TimeoutError,
)
_MOVING = "non local key"
"""In what a node of a Cluster answers to a script whose slot is on its way to another node."""
# Error words that redis-py has no class for where they come out of a script.
_PASSING_WORDS = ("BUSY ", "MISCONF ", "NOREPLICAS ", "UNKILLABLE ", "TRYAGAIN ", "CLUSTERDOWN ", "LOADING ", "OOM ")


_OF_A_PIPELINE = re.compile(r"Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)
_ONE_OF_ARGUMENTS = re.compile(r"""\((['"])(.*)\1,?\)""", re.DOTALL)


def said(error: BaseException) -> str:
    """What an error says, without what redis-py adds: the command of a pipeline, whose keys name users, and the whole
    client where a Sentinel knows no primary."""
    text = str(error)
    if found := _OF_A_PIPELINE.match(text):
        text = text[found.end() :]
        if alone := _ONE_OF_ARGUMENTS.fullmatch(text):
            text = alone[2]
    return text.partition(" : <redis.")[0].strip()


def clause(error: BaseException) -> str:
    """What an error says as a part of a longer sentence: without a stop at its end, its type where it says nothing."""
    return said(error).rstrip(". ") or type(error).__name__


def remedy(error: BaseException) -> str:
    """What to look at when Redis refuses a call for good."""
    if isinstance(error, AuthenticationError):
        return "Check KAIROS_REDIS_USERNAME and KAIROS_REDIS_PASSWORD, or user and password in KAIROS_REDIS."
    return "Check KAIROS_REDIS, the user's rights there, and what the keys hold."


def passes(error: BaseException) -> bool:
    """Whether trying the same call again later can help; a login that is refused counts among connection errors."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return False
    text = said(error)
    return isinstance(error, _PASSING) or text.startswith(_PASSING_WORDS) or _MOVING in text
