"""Which trouble with Redis is waited for, and which ends a process."""

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, ResponseError

from streams.service.trouble import passes


@pytest.mark.parametrize(
    "error",
    [
        NoScriptError("No matching script. Please use EVAL."),
        ResponseError("BUSY Redis is busy running a script."),
        ResponseError("LOADING Redis is loading the dataset in memory"),
        ConnectionRefusedError(111, "refused"),
    ],
)
def test_what_the_same_call_does_not_meet_later_passes(error: Exception) -> None:
    assert passes(error)


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("invalid username-password pair"),
        NoPermissionError("this user has no permissions to run the 'hset' command"),
        ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
    ],
)
def test_what_it_meets_for_ever_does_not(error: Exception) -> None:
    assert not passes(error)
