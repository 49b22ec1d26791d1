"""Push logs that several namespaces hold of one user, put together."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from model_server.policy.pushes import decode, encode, together
from tests.unit.test_policy import T, push


def test_logs_of_several_namespaces_are_one_log() -> None:
    first, second, third = (push(7 + i, sent_ms=T + i, dedup="abc"[i]) for i in range(3))
    back = replace(first, retracted=True)
    assert together([None, None]) is None
    assert together([None, encode([first])]) == encode([first])
    assert decode(together([encode([second, third]), encode([first, second])])) == (first, second, third)
    assert decode(together([encode([back]), encode([first])])) == (back,)
    assert decode(together([encode([first]), encode([back])])) == (back,)


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 40))
def test_a_log_cut_in_two_anywhere_is_the_same_log(retracted: list[bool], at: int) -> None:
    log = [replace(push(i, sent_ms=T + i, dedup=f"{i}"), retracted=gone) for i, gone in enumerate(retracted)]
    whole = decode(encode(log))
    assert decode(together([encode(log[at:]), encode(log[: at + 3])])) == whole
