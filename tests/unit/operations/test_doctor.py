"""What `kairos doctor` calls green, yellow and red, and that a page about what is broken does not break."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from schemas.topics import Topics
from streams.operations.checkup import here, kafka, letters, redis, tables
from streams.operations.doctor import page, summary
from streams.service.findings import Finding, Section, State, as_facts, looked, worst
from streams.service.namespaces import InForce
from streams.service.redis_facts import ServerFacts
from streams.service.settings import read
from streams.settings import StreamSettings
from streams.tables.errors import LostRange, NotInitialised, Repartitioned, TopicReplaced, Truncated
from streams.tables.memory_use import MemoryUse, PartUse

WELL = ServerFacts(
    name="a:1",
    software="Valkey",
    version="8.0.1",
    used_bytes=1 << 30,
    max_bytes=4 << 30,
    policy="noeviction",
    allocator="jemalloc-5.3.0",
    fragmentation=1.05,
    evicted_keys=0,
    append_only=True,
    fsync="everysec",
    snapshots=False,
    write_failed="",
    loading=False,
    replicas=1,
    uptime_s=86_400,
)


def states(findings: Any) -> list[State]:
    return [finding.state for finding in findings]


def bad(findings: Any) -> list[Finding]:
    return [finding for finding in findings if finding.state != "green"]


def test_a_server_as_it_should_be_is_green() -> None:
    assert bad(redis.judge_server(WELL)) == []


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({"policy": "allkeys-lru"}, "red", "allkeys-lru"),
        ({"policy": None}, "yellow", "not told"),
        ({"evicted_keys": 3}, "red", "3 keys were evicted"),
        ({"max_bytes": 0}, "yellow", "no maxmemory"),
        ({"used_bytes": 3500 << 20}, "yellow", "85%"),
        ({"used_bytes": 4000 << 20}, "red", "98%"),
        ({"fragmentation": 2.0}, "yellow", "2.0 times"),
        ({"append_only": False, "snapshots": True}, "yellow", "Only snapshots"),
        ({"append_only": False, "snapshots": False}, "yellow", "Nothing is written"),
        ({"append_only": False, "snapshots": False, "replicas": 0}, "red", "Nothing is written"),
        ({"fsync": "no"}, "yellow", "minutes"),
        ({"write_failed": "the append-only file"}, "red", "append-only file failed"),
        ({"loading": True}, "yellow", "loads"),
        ({"software": "Redis", "version": "6.0.9"}, "red", "older than 6.2"),
    ],
)
def test_what_is_wrong_with_a_server_is_said_with_its_remedy(change: dict[str, Any], state: str, words: str) -> None:
    (found,) = bad(redis.judge_server(dataclasses.replace(WELL, **change)))
    assert found.state == state
    assert words in found.what
    assert found.remedy.endswith((".", "`", ")"))


@pytest.mark.parametrize(("ahead_ms", "state"), [(0.0, "green"), (-5_000.0, "yellow"), (70_000.0, "red")])
def test_clocks_that_differ(ahead_ms: float, state: str) -> None:
    assert redis.judge_clock(ahead_ms).state == state


def test_memory_is_told_by_part_with_what_is_estimated() -> None:
    use = MemoryUse([PartUse("rows", 10, 10, 3_000, 2_500, 5, exact=False)], 12, 1 << 20, 1 << 19)
    assert redis.memory_lines(use) == [
        "rows: about 10, 300 bytes each, 2.9 KiB in all",
        "together 2.9 KiB; the server uses 1.0 MiB for 12 keys",
    ]
    assert redis.memory_lines(MemoryUse([], 0, 0, 0)) == ["nothing is kept yet"]


def test_a_group_without_members_is_red_only_where_records_wait() -> None:
    nobody = kafka.Group("g-users", "Empty", {})
    assert states(kafka.judge_group(nobody, 8, 0)) == ["yellow"]
    assert states(kafka.judge_group(nobody, 8, 5)) == ["red"]
    settled = kafka.Group("g-users", "Stable", {"a@/1": 5, "b@/2": 3})
    assert states(kafka.judge_group(settled, 8, 5)) == ["green"]
    assert states(kafka.judge_group(settled, 9, 5)) == ["green", "yellow"]
    assert states(kafka.judge_group(settled._replace(state="PreparingRebalance"), 8, 5)) == ["green", "yellow"]


def test_brokers_that_tell_no_topic_ids_are_red() -> None:
    assert states(kafka.judge_brokers(3, {"Metadata": 13})) == ["green"]
    assert states(kafka.judge_brokers(1, {"Metadata": 9})) == ["green", "red"]


def test_a_log_that_is_kept_for_less_than_the_longest_window_is_told() -> None:
    topics, month_ms = Topics(), 30 * 86_400_000
    assert list(kafka.judge_retention(topics, {topics.clicks: month_ms, topics.deltas: None}, month_ms)) == []
    (clicks, deltas) = kafka.judge_retention(topics, {topics.clicks: 1_000, topics.deltas: 1_000}, month_ms)
    assert "30 d" in clicks.what
    assert "retention.ms=7776000000" in clicks.remedy
    assert "1 s" in deltas.what


@pytest.mark.parametrize(
    "refusal",
    [
        NotInitialised("t", 0, b"k"),
        TopicReplaced("t.v1", 0, "a", "b"),
        Repartitioned("t.v1", 0, 4, 8),
        LostRange("t.v1", 0, 3, 9),
        Truncated("t.v1", 0, 9, 3),
    ],
)
def test_every_refusal_is_taken_apart_into_what_and_remedy(refusal: Exception) -> None:
    what, remedy = kafka.remedy_in(str(refusal))
    assert what.startswith("t")
    assert "rebuild" in remedy.lower()
    assert "rebuild" not in what


@given(total=st.integers(0, 10_000), records=st.integers(0, 10_000))
def test_letters_are_red_only_when_they_are_many_of_many(total: int, records: int) -> None:
    (found,) = letters.judge_letters(total, records, Counter(json=total), total)
    assert (found.state == "green") == (total == 0)
    assert (found.state == "red") == (total > 100 and total > max(records, total) / 10)


@pytest.mark.parametrize(
    ("behind", "worst_of", "age_ms", "state"),
    [(0, 0, None, "green"), (40, 9, 500, "green"), (40, 9, 90_000, "yellow"), (90_000, 20_000, 500, "red")],
)
def test_rows_that_are_behind(behind: int, worst_of: int, age_ms: int | None, state: str) -> None:
    assert states(tables.judge_rows(behind, worst_of, age_ms, 10_000)) == [state]


@pytest.mark.parametrize(("late_ms", "state"), [(None, "green"), (9_000, "green"), (70_000, "yellow"), (1e6, "red")])
def test_users_who_wait(late_ms: float | None, state: str) -> None:
    oldest = {"user_id": "u", "class": "click", "late_ms": late_ms, "waits_ms": late_ms} if late_ms else None
    queue = {"due": 1, "waiting": 0, "leased": 0, "expired": 0, "oldest": oldest}
    assert states(tables.judge_queue(queue)) == [state]
    assert states(tables.judge_queue(queue | {"expired": 2}))[1:] == ["yellow"]


def test_a_promotion_left_in_the_middle_is_told() -> None:
    assert states(tables.judge_namespaces(InForce("a", "a"), ["a"])) == ["green"]
    assert states(tables.judge_namespaces(InForce("b", "a"), ["b", "c"])) == ["yellow", "green"]


def test_rows_that_cannot_be_read_with_the_settings_of_here_are_told() -> None:
    assert states(tables.judge_schema("main", None, 7, {})) == []
    assert states(tables.judge_schema("main", 7, 7, {})) == []
    (refused,) = tables.judge_schema("main", 8, 7, {"other": {"schema": 8}})
    assert (refused.state, refused.what) == (
        "red",
        "Rows of main have schema 8, the features of here 7: a worker that starts here is refused.",
    )
    (waiting,) = tables.judge_schema("main", 8, 7, {"next": {"schema": 7}})
    assert (waiting.state, "`kairos promote next --execute`" in waiting.remedy) == ("yellow", True)


def test_a_library_of_another_version_is_red() -> None:
    found = {**dict.fromkeys(here.INSIDES, "1.0"), "aiokafka": "0.13.0", "redis": None}
    missing, other = sorted(here.judge_versions(found, {"aiokafka": "==0.14.0", "redis": ">=8"}), reverse=True)
    assert "redis is not installed" in missing.what
    assert other.remedy == "pip install 'aiokafka==0.14.0'"


def test_this_environment_has_what_the_release_pins() -> None:
    assert bad(here.look_at_versions().findings) == []


def test_settings_that_nothing_reads_are_told_with_the_nearest_name() -> None:
    env = {"KAIROS_CHUNKS": "9", "KAIROS_CHUNK": "50", "KAIROS_REDIS_PASSWORD": "x", "KAIROS_XYZ": "1", "HOME": "/"}
    section = here.look_at_settings(read(StreamSettings, env), env)
    told = {finding.what: finding.remedy for finding in bad(section.findings)}
    assert told == {
        "KAIROS_CHUNK=50: small chunks cost several times the CPU an event.": "Set 4000.",
        "KAIROS_CHUNKS is set, and nothing reads it.": "Did you mean KAIROS_CHUNK?",
        "KAIROS_XYZ is set, and nothing reads it.": "Unset it, or see the settings with `--help`.",
    }
    assert "KAIROS_REDIS_PASSWORD=***" in section.findings[0].what
    assert "x" not in str(section.facts["secrets_set"]).lower().replace("kairos_redis_password", "")


async def test_a_look_that_fails_or_takes_too_long_is_a_finding() -> None:
    async def fails() -> Section:
        msg = "by zero"
        raise ZeroDivisionError(msg)

    async def hangs() -> Section:
        await asyncio.sleep(60)
        return Section("never")

    (failed,) = (await looked("a", fails)).findings
    assert failed.state == "red"
    assert failed.what == "It could not be looked at (ZeroDivisionError): by zero."
    (hung,) = (await looked("b", hangs, within_s=0.01)).findings
    assert hung.state == "red"
    assert hung.remedy


def test_the_page_marks_every_finding_and_ends_with_the_verdict() -> None:
    first, second = Section("redis"), Section("kafka")
    first.green("fine")
    first.yellow("odd [x]", "Look.")
    second.red("broken", "Mend it.")
    console = Console(width=100)
    with console.capture() as capture:
        console.print(page([first, second]))
    assert capture.get().split("\n") == [
        "redis",
        "  ✓ fine",
        "  ! odd [x]",
        "    → Look.",
        "kafka",
        "  ✗ broken",
        "    → Mend it.",
        "",
        "red: 1 trouble, 1 thing to look at",
        "",
    ]
    assert as_facts([second])["kafka"]["state"] == "red"
    assert summary([Section("a")]) == "green: nothing is wrong"
    assert worst(["green", "red", "yellow"]) == "red"
