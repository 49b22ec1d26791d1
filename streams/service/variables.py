"""Which KAIROS_* variables there are, of all commands together, so that a typing error does not pass unnoticed."""

import difflib
import re
from collections.abc import Mapping

PREFIX = "KAIROS_"
_SETTINGS = """
    BATCH_DELAY_MS BATCH_LATE_MS BATCH_TOKENS BATCH_USERS BOUGHT_DAYS BREAKER_RECORDS BREAKER_SHARE BUFFER
    CACHE_MIB CHUNK DAILY_CAP DEVICE FEATURES FETCH_MAX_BYTES FETCH_MIN_BYTES FETCH_WAIT_MS GROUP HORIZON_DAYS HTTP
    INSTANCE ISOLATION ITEM_FETCH_MIN_BYTES ITEM_FETCH_WAIT_MS ITEM_POLL_MS KAFKA KAFKA_CA KAFKA_CERT KAFKA_KEY
    KAFKA_PASSWORD KAFKA_SASL_MECHANISM KAFKA_SECURITY KAFKA_USERNAME LEASE_S LIFE_S LIVENESS_S LOG LOG_LEVEL
    MAX_LATE_S MAX_OPTOUT MAX_SKEW_S MAX_VALUE_BYTES MINIMUM_GAP_S MIN_GRADE MIN_SCORE MODEL_DIR NAMESPACE PUSHED_DAYS
    QUEUE_POLL_MS QUIET_HOURS REDIS REDIS_CA REDIS_CERT REDIS_KEY REDIS_PASSWORD REDIS_USERNAME RELOAD_S
    SEEK_DEADLINE_S SESSION_TIMEOUT_S SLOTS STOP_S TEXT TOPIC_PREFIX ZONE
"""
_SECRETS = ("KAFKA_PASSWORD", "REDIS", "REDIS_PASSWORD")
_OTHERS = ("TRACEBACK",)
KNOWN = frozenset(
    [PREFIX + name for name in (*_SETTINGS.split(), *_OTHERS)] + [f"{PREFIX}{name}_FILE" for name in _SECRETS]
)
# Kubernetes sets these in every container beside a Service whose name begins with `kairos`.
_LINK = re.compile(r"_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?$")


def unknown(env: Mapping[str, str]) -> list[str]:
    """A sentence about every KAIROS_* variable that no command reads, with the nearest one that some command does.

    It is no error: a file of variables may serve commands of several releases. Values are not shown.
    """
    strange = sorted(name for name in env if name.startswith(PREFIX) and name not in KNOWN and not _LINK.search(name))
    return [f"{name} is no setting of Kairos and changes nothing.{_nearest(name)}" for name in strange]


def _nearest(name: str) -> str:
    """One that is spelt alike, else the longest one that the name begins with."""
    rest = name.removeprefix(PREFIX)
    names = sorted(known.removeprefix(PREFIX) for known in KNOWN)
    near = difflib.get_close_matches(rest, names, n=1, cutoff=0.8)
    near += sorted((known for known in names if rest.startswith(known + "_")), key=len, reverse=True)
    return f" Did you mean {PREFIX}{near[0]}?" if near else " See kairos COMMAND --help."
