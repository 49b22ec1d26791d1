"""The brokers, the topics against their plan, and who reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupCoordinatorNotAvailableError

from schemas.topics import Topics
from streams.admin import administering, describe
from streams.service.findings import Finding, Section
from streams.service.spans import span
from streams.service.topic_ids import MetadataRequestV12, TopicFacts
from streams.topic_check import Checkable, check
from streams.topic_plan import DAY_MS, TopicLayout, plan

APIS = {"Produce": 0, "Fetch": 1, "Metadata": 3, "DescribeGroups": 15}
NEEDED_METADATA = MetadataRequestV12.API_VERSION


class Group(NamedTuple):
    """A consumer group: its state in Kafka's words, and how many partitions each member reads."""

    name: str
    state: str
    members: Mapping[str, int]


async def look_at_kafka(kafka: Mapping[str, Any]) -> Section:
    """Brokers and the versions that they speak."""
    section = Section("kafka")
    async with administering(kafka) as admin:
        cluster = await admin.describe_cluster()
        spoken: Mapping[int, tuple[int, int]] = next(
            (c._versions for c in admin._client._conns.values() if c._versions), {}
        )
    apis = {name: spoken[key][1] for name, key in APIS.items() if key in spoken}
    section.facts = {"cluster_id": cluster.get("cluster_id"), "brokers": len(cluster["brokers"]), "api_versions": apis}
    section.findings += judge_brokers(len(cluster["brokers"]), apis)
    return section


def judge_brokers(brokers: int, apis: Mapping[str, int]) -> Iterator[Finding]:
    """Whether the brokers speak what Kairos needs."""
    told = ", ".join(f"{name} v{version}" for name, version in apis.items())
    yield Finding("green", f"{brokers} broker{'s' if brokers != 1 else ''}, up to {told}")
    if apis.get("Metadata", NEEDED_METADATA) < NEEDED_METADATA:
        yield Finding("red", "The brokers do not tell topic ids.", "Upgrade Kafka to 3.1 or newer.")


async def look_at_topics(
    kafka: Mapping[str, Any], topics: Topics, tables: Mapping[str, Checkable], longest_window_ms: int
) -> Section:
    """Everything that `kairos topics check` looks at, and how long the logs are kept."""
    section = Section("topics")
    async with administering(kafka) as admin:
        known = await describe(admin, [topic.name for topic in plan(topics, TopicLayout())])
        layout = TopicLayout(
            users=_count(known, topics.user_inputs, TopicLayout.users),
            items=_count(known, topics.item_inputs, TopicLayout.items),
        )
        planned = plan(topics, layout)
        async for what, remedy in check(kafka, admin, topics, planned, tables):
            section.red(*((what, remedy) if remedy else remedy_in(what)))
        kept = await retentions(admin, [topic.name for topic in planned if topic.name in known])
    section.facts = {
        "topics": {name: {"partitions": facts.partitions, "id": facts.id} for name, facts in known.items()},
        "retention_ms": kept,
    }
    if not section.findings:
        section.green("topics, ids, keys (by murmur2) and stored offsets are as a worker needs them")
    for name, wanted in {topic.name: topic.partitions for topic in planned}.items():
        if (
            name in known
            and known[name].partitions != wanted
            and name not in (*topics.user_inputs, *topics.item_inputs)
        ):
            section.green(f"{name} has {known[name].partitions} partitions, the topics beside it {wanted}")
    for name in (topic.name for topic in planned if topic.name in known):
        section.green(f"{name}: {known[name].partitions} partitions, kept {_kept(kept.get(name))}")
    section.findings += judge_retention(topics, kept, longest_window_ms)
    return section


def remedy_in(refusal: str) -> tuple[str, str]:
    """What is wrong and the way out, of a table's sentence that names both."""
    what, point, remedy = refusal.partition(". ")
    if not point:
        what, point, remedy = refusal.rpartition("; ")
    return (f"{what}.", f"{remedy[:1].upper()}{remedy[1:]}") if point else (refusal, "See docs/faults.md.")


def judge_retention(topics: Topics, kept: Mapping[str, int | None], longest_window_ms: int) -> Iterator[Finding]:
    """Logs that are gone before somebody may need them; None: kept for ever."""
    for name in topics.user_inputs:
        ms = kept.get(name)
        if ms is not None and ms < longest_window_ms:
            yield Finding(
                "yellow",
                f"{name} is kept for {span(ms)}, and the longest window is {span(longest_window_ms)}: a rebuild cannot "
                "fill it.",
                f"kafka-configs --alter --entity-type topics --entity-name {name} "
                f"--add-config retention.ms={max(90 * DAY_MS, longest_window_ms)}",
            )
    ms = kept.get(topics.deltas)
    if ms is not None and ms < DAY_MS:
        yield Finding(
            "yellow",
            f"{topics.deltas} is kept for {span(ms)}: an item side that stands still for longer loses deltas.",
            f"kafka-configs --alter --entity-type topics --entity-name {topics.deltas} "
            f"--add-config retention.ms={7 * DAY_MS}",
        )


async def retentions(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int | None]:
    """How long each topic is kept in ms, None for ever (or compacted)."""
    wanted = [
        ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": "", "cleanup.policy": ""}) for name in names
    ]
    found: dict[str, int | None] = {}
    for response in await admin.describe_configs(wanted) if wanted else ():
        for _code, _reason, _kind, name, entries, *_ in response.resources:
            values = dict(entry[:2] for entry in entries)
            ms = int(values.get("retention.ms", "-1"))
            found[name] = None if ms < 0 or values.get("cleanup.policy") == "compact" else ms
    return found


async def look_at_workers(kafka: Mapping[str, Any], groups: Mapping[str, tuple[int, int]]) -> Section:
    """Who reads: `groups` are the consumer groups by name, with their partitions and the offsets that wait for them."""
    section = Section("workers")
    async with administering(kafka) as admin:
        found = [await describe_group(admin, name) for name in groups]
    section.facts = {"groups": {group.name: {"state": group.state, "members": group.members} for group in found}}
    for group in found:
        section.findings += judge_group(group, *groups[group.name])
    return section


async def describe_group(admin: AIOKafkaAdminClient, name: str) -> Group:
    """State and members of a consumer group; one that never was has the state "Dead"."""
    try:
        (response,) = await admin.describe_consumer_groups([name])
    except GroupCoordinatorNotAvailableError:
        return Group(name, "Dead", {})
    for _code, group, state, _type, _protocol, members, *_ in response.groups:
        read = {f"{client}@{host}": 0 for _member, client, host, *_ in members}
        for member, client, host, _metadata, assignment in members:
            del member
            count = len(ConsumerProtocolMemberAssignment.decode(assignment).partitions()) if assignment else 0
            read[f"{client}@{host}"] += count
        return Group(group, state, read)
    return Group(name, "Dead", {})


def judge_group(group: Group, partitions: int, behind: int) -> Iterator[Finding]:
    """Whether somebody reads every partition; `behind` offsets are not applied."""
    if not group.members:
        what = f"No worker is in the group {group.name}" + (f", and {behind:,} offsets wait." if behind else ".")
        yield Finding("red" if behind else "yellow", what, "Start `kairos worker`, with this KAIROS_GROUP.")
        return
    read = sum(group.members.values())
    yield Finding(
        "green", f"{group.name}: {group.state}, members: {len(group.members)}, partitions read: {read} of {partitions}"
    )
    if group.state != "Stable":
        yield Finding("yellow", f"The group {group.name} is settling ({group.state}).", "Ask again in a minute.")
    elif read < partitions:
        yield Finding(
            "yellow",
            f"{partitions - read} partitions of {group.name} are read by nobody.",
            "See the logs of the workers; a static member (KAIROS_INSTANCE) that is gone keeps its partitions until "
            "the session timeout.",
        )


def _count(known: Mapping[str, TopicFacts], names: Sequence[str], default: int) -> int:
    return max((known[name].partitions for name in names if name in known), default=default)


def _kept(ms: int | None) -> str:
    return "for ever" if ms is None else f"for {span(ms)}"
