"""Fetches what `kairos inspect` shows, and says what to do when there is nothing to show."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.faults import bad_ids
from schemas.keys import Keys
from streams.inspect import facts, item_codes, page
from streams.opened import Tables, declared
from streams.service.addresses import redis_address
from streams.service.clock import Clock
from streams.service.namespaces import in_force
from streams.service.redis import connect
from streams.service.trouble import TROUBLE, clause, passes, remedy
from streams.service.verb import BAD, GOOD, Telling
from streams.settings import Tools
from streams.tables.look import item_names, look, partitions_of


async def inspect_user(tools: Tools, user: str, tell: Telling, *, newest: int) -> int:
    """Tell of a user; 0, or 1 after saying why there is nothing."""
    for _, _, sentence in bad_ids("user_id", [user]):
        return _complain(tell, sentence)
    declared(tools)  # a wrong file of features is a wrong setting, be Redis there or not
    client = connect(tools.connections)
    tables = None
    try:
        force = await in_force(client, tools.connections.namespace)
        tables = Tables(tools.within(force.serving))
        former = [Keys(namespace) for namespace in force.logs]
        return await _inspect(tables, Keys(force.serving), former, user, tell, newest)
    except TROUBLE as error:
        where = redis_address(tools.connections.redis)
        if not passes(error):
            return _complain(tell, f"{where} refuses: {clause(error)}. {remedy(error)}")
        return _complain(
            tell, f"{where} does not answer ({clause(error)}): start it, or set KAIROS_REDIS to where it is."
        )
    finally:
        await client.aclose()
        if tables is not None:
            await tables.close()


async def _inspect(tables: Tables, keys: Keys, former: Sequence[Keys], user: str, tell: Telling, newest: int) -> int:
    client = tables.client
    partitions = await partitions_of(client, keys.user_tag(0))
    if partitions is None:
        return _complain(
            tell,
            f"Namespace {keys.namespace} is not initialised in this Redis: check KAIROS_REDIS and KAIROS_NAMESPACE, "
            "or run `kairos topics create`.",
        )
    looked = await look(client, keys, user, partitions, former)
    if looked.row is None:
        erased = "" if looked.erased_ms is None else " The user was erased, see `kairos erase --help`."
        return _complain(
            tell, f"Nothing is known of user {user} (partition {looked.partition} of {partitions}).{erased}"
        )
    item_partitions = await partitions_of(client, keys.item_tag(0)) or 0
    codes = item_codes(tables.users.layout, looked.row)
    names = await item_names(client, keys, item_partitions, codes)
    now = Clock()()
    known = facts(tables.users.layout, user, looked, names, now)
    tell.facts(**known)
    tell.page(page(known, now, newest))
    return tell.end(GOOD)


def _complain(tell: Telling, sentence: str) -> int:
    tell.complain(sentence)
    return tell.end(BAD)
