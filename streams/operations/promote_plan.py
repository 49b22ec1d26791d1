"""What must be true before a namespace may come into force, and what a promotion would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.keys import Keys
from streams.admin import administering, describe, log_facts
from streams.opened import Tables, declared
from streams.operations.standing import see
from streams.service import namespaces, roll
from streams.service.kafka import client_options
from streams.service.namespaces import InForce
from streams.service.redis import Client
from streams.service.roll import Member
from streams.settings import FoldSettings
from streams.tables.errors import NotInitialised, TableError
from streams.tables.look import partitions_of


class Refusal(Exception):
    """A promotion that must not begin; the sentence says why, and what to do first."""

    exit_code = 78


@dataclass(frozen=True)
class Plan:
    """From which namespace to which, and what lies between; `run` is what was registered of the target."""

    force: InForce
    target: str
    partitions: int
    lag: int = 0
    members: tuple[Member, ...] = ()
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> Keys:
        """Those of the target."""
        return Keys(self.target)

    @property
    def in_force(self) -> bool:
        """Whether there is nothing to do."""
        return not self.force.step and self.force.live == self.target

    @property
    def facts(self) -> dict[str, Any]:
        """For programs."""
        return {
            "from": self.force.live,
            "to": self.target,
            "under_way": self.force.step,
            "lag_records": self.lag,
            "workers": [member._asdict() for member in self.members],
            "run": dict(self.run),
        }


def chosen(force: InForce, run: str, *, undo: bool) -> str:
    """The namespace that the command is about. Raises Refusal where it is about none."""
    if not undo:
        if force.step and run not in (force.target, force.origin):
            text = (
                f"The promotion of {force.target} is under way ({force.step}): end it by `kairos promote "
                f"{force.target} --execute`, or go back by `kairos promote --undo --execute`."
            )
            raise Refusal(text)
        return run
    back = force.origin if force.step else force.previous
    if not back:
        text = f"Nothing was promoted before {force.live}: there is nothing to go back to."
        raise Refusal(text)
    return back


async def plan(client: Client, settings: FoldSettings, target: str) -> Plan:
    """Look at everything. Raises Refusal, KafkaError, OSError and what a call to Redis raises."""
    installation = settings.connections.namespace
    force = await namespaces.in_force(client, installation)
    known = await namespaces.runs(client, installation)
    partitions = await _partitions(client, target, list(known))
    members = await roll.present(client, installation)
    made = Plan(force, target, partitions, 0, tuple(members), known.get(target, {}))
    if force.step or made.in_force:
        return made
    schema = known.get(target, {}).get("schema") or await namespaces.schema_of(client, Keys(target))
    _refuse_other_schema(target, schema, declared(settings).schema, members)
    await _refuse_stragglers(client, installation, force.live, members)
    await _refuse_shadows(client, target, installation)
    within = settings.within(target)
    await _refuse_unreadable(within)
    connections = within.connections
    seen = await see(client_options(connections), client, Keys(target), connections.topics, within.isolation)
    lag = sum(standing.behind for standing in seen.standings)
    return Plan(force, target, partitions, lag, tuple(members), known.get(target, {}))


async def _partitions(client: Client, target: str, known: list[str]) -> int:
    """Partitions of users that a namespace has. Raises Refusal where there is no such namespace."""
    count = await partitions_of(client, Keys(target).user_tag(0))
    if count is None:
        runs = f"; runs are {', '.join(sorted(known))}" if known else ""
        text = (
            f"There is no namespace {target} in this Redis{runs}: build it by `kairos replay --mode rebuild --into "
            f"{target} --execute`."
        )
        raise Refusal(text)
    return count


def _refuse_other_schema(target: str, schema: int | None, mine: int, members: list[Member]) -> None:
    """Everybody who works after the promotion must read the rows of the target."""
    if schema not in (None, mine):
        text = (
            f"Rows of {target} have schema {schema}, this process reads {mine}: set KAIROS_FEATURES to the file that "
            f"{target} was built with."
        )
        raise Refusal(text)
    if other := [member.words for member in members if member.schema != mine]:
        text = (
            f"Workers of another schema still run: {'; '.join(other)}. Rows of {target} have schema {mine}: start "
            "workers with the KAIROS_FEATURES it was built with, which wait for it, and stop these; then promote."
        )
        raise Refusal(text)


async def _refuse_stragglers(client: Client, installation: str, live: str, members: list[Member]) -> None:
    """Workers that are told to stay in the namespace that is left would go on with it for ever."""
    staying = [member for member in members if member.pinned and member.namespace == live]
    if live != installation:
        staying += await roll.present(client, live)
    if staying:
        named = "; ".join(member.words for member in staying)
        text = f"Workers that would stay in {live} run: {named}. Stop them, or start them without --into {live}."
        raise Refusal(text)


async def _refuse_shadows(client: Client, target: str, installation: str) -> None:
    """Who scores the target in shadow would go on to take its users, and they would never be pushed."""
    shadows = [m for m in await roll.present(client, target) if m.kind == "model"] if target != installation else []
    if shadows:
        named = "; ".join(member.words for member in shadows)
        text = f"{target} is scored in shadow: {named}. Stop `kairos model --shadow {target}` first."
        raise Refusal(text)


async def _refuse_unreadable(within: FoldSettings) -> None:
    """A worker that started on the target now must not be refused."""
    tables = Tables(within)
    topics, kafka = within.connections.topics, client_options(within.connections)
    by_topic = tables.of_topics(topics)
    try:
        async with administering(kafka) as admin:
            known = await describe(admin, list(by_topic))
        if absent := sorted(by_topic.keys() - known.keys()):
            text = (
                f"{', '.join(absent)} not in Kafka: run `KAIROS_NAMESPACE={within.connections.namespace} "
                "kairos topics create`."
            )
            raise Refusal(text)
        await tables.users.check_server()
        for facts in await log_facts(kafka, known):
            await by_topic[facts.topic].start_position(facts)
    except NotInitialised as error:
        name = within.connections.namespace
        text = (
            f"{name} does not reach the log yet, {error.topic}:{error.partition} is not in it: let it join the log by "
            f"`kairos replay --into {name} --from TIME --execute` (docs/replay.md), then promote."
        )
        raise Refusal(text) from error
    except TableError as error:
        raise Refusal(str(error)) from error
    finally:
        await tables.close()
