"""The clock of a service follows drift and small steps, and holds its own against a jump."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.service.clock import LARGEST_STEP_MS, Clock, ClockError, steady_ns

S = 1_000_000_000
T_S = 1_800_000_000


class Machine:
    """A machine whose wall clock can be set."""

    def __init__(self) -> None:
        self.wall_s, self.up_s = float(T_S), 77.0
        self.clock = Clock(lambda: int(self.wall_s * S), lambda: int(self.up_s * S))

    def after(self, seconds: float, *, step_s: float = 0.0) -> float:
        """What the clock says in s, so much later and with the wall clock moved besides."""
        self.up_s += seconds
        self.wall_s += seconds + step_s
        return self.clock() / 1000


def test_it_is_the_wall_clock() -> None:
    machine = Machine()
    assert machine.after(0) == T_S
    assert machine.after(10) == T_S + 10


@given(st.lists(st.floats(-59, 59), max_size=50))
def test_drift_and_small_steps_are_followed(steps_s: list[float]) -> None:
    machine = Machine()
    for step_s in steps_s:
        assert machine.after(30, step_s=step_s) == pytest.approx(machine.wall_s, abs=0.002)
    assert machine.clock.held_ms == 0


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0, LARGEST_STEP_MS / 1000 + 1])
def test_a_jump_is_not_followed_and_said_once(jump_s: float, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    assert machine.after(1, step_s=jump_s) == T_S + 1
    assert machine.after(5) == T_S + 6
    assert machine.clock.held_ms == pytest.approx(jump_s * 1000, abs=2)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "start this process again" in caplog.text


def test_a_clock_set_right_again_is_followed() -> None:
    machine = Machine()
    machine.after(1, step_s=3600)
    assert machine.after(1, step_s=-3600.5) == T_S + 1.5
    assert machine.clock.held_ms == 0
    assert machine.after(1, step_s=0.25) == T_S + 2.75


def test_the_steady_time_only_goes_forward() -> None:
    seen = [steady_ns() for _ in range(100)]
    assert seen == sorted(seen)


async def test_a_start_with_a_clock_that_redis_contradicts_is_refused_until_it_is_right() -> None:
    machine = Machine()

    async def redis_time() -> tuple[int, int]:
        return T_S + 5, 0

    await machine.clock.compare(redis_time)
    machine.wall_s += 3605
    with pytest.raises(ClockError, match="3600 s ahead of that of Redis"):
        await machine.clock.compare(redis_time)
    machine.wall_s -= 7200
    with pytest.raises(ClockError, match="3600 s behind that of Redis"):
        await machine.clock.compare(redis_time)
    machine.wall_s += 3600
    await machine.clock.compare(redis_time)
    assert machine.clock() == machine.wall_s * 1000
    assert machine.clock.held_ms == 0
