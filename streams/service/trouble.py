"""How trouble is told, and which trouble with Redis passes, so that the same call may work later: for both services."""

import asyncio

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterError,
    MovedError,
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
    NotNowError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    TryAgainError,
    OSError,
    asyncio.TimeoutError,
)
# Error words that redis-py has no class for where they come out of a script.
_PASSING_WORDS = ("BUSY ", "MISCONF ", "NOREPLICAS ", "UNKILLABLE ", "TRYAGAIN ", "CLUSTERDOWN ", "LOADING ", "OOM ")


def clause(error: BaseException) -> str:
    """What an error says as a part of a longer sentence: without a stop at its end, its type where it says nothing.

    redis-py shows the whole client where a Sentinel knows no primary; that is left out.
    """
    return str(error).partition(" : <redis.")[0].strip().rstrip(". ") or type(error).__name__


def remedy(error: BaseException) -> str:
    """What to look at when Redis refuses a call for good."""
    if isinstance(error, AuthenticationError):
        return "Check KAIROS_REDIS_USERNAME and KAIROS_REDIS_PASSWORD, or user and password in KAIROS_REDIS."
    return "Check KAIROS_REDIS, the user's rights there, and what the keys hold."


def passes(error: BaseException) -> bool:
    """Whether trying the same call again later can help; a login that is refused counts among connection errors."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return False
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_WORDS)
