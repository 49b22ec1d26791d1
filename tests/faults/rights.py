"""The least rights of docs/security.md as Kafka and Valkey take them, and passwords that change."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest_v1
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactBytes, CompactString, Int8, Int16, Int32, Schema, TaggedFields

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
RESOURCES, PATTERNS = {"topic": 2, "group": 3}, {"literal": 3, "prefixed": 4}
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Alter": 7, "Describe": 8, "DescribeConfigs": 10}
ALLOW, SCRAM_SHA_512, ITERATIONS = 3, 2, 4_096


class Right(NamedTuple):
    """What one user of Kafka may do with a topic or group, or with all whose names begin so."""

    user: str
    operation: str
    resource: str
    pattern: str
    name: str


def _block(name: str) -> list[str]:
    """Lines of the page between two marks, without the fences around them."""
    _, _, rest = PAGE.read_text("utf-8").partition(f"<!-- {name} -->")
    lines = rest.partition(f"<!-- /{name} -->")[0].splitlines()
    return [line for line in lines if line.strip() and not line.startswith("```")]


def of_kafka() -> list[Right]:
    """The rights at the brokers."""
    return [Right(*line.split()) for line in _block("kafka")]


def of_redis(passwords: Mapping[str, str]) -> dict[str, str]:
    """The words of an ACL by user, with their passwords in."""
    found = {}
    for line in _block("redis"):
        _, user, words = line.split(" ", 2)
        found[user] = words.replace("PASSWORD", passwords[user])
    return found


async def grant(admin: AIOKafkaAdminClient, prefix: str) -> None:
    """Write the rights down at the brokers, for topics that begin with a prefix."""
    for code, reason in (await admin._send_to_controller(_Grants(prefix))).creation_responses:
        if code:
            raise for_code(code)(reason)


class _Grants(Request[CreateAclsRequest_v1]):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 30

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def build(self, request_struct_class: Any) -> Any:
        rows = [
            (
                RESOURCES[right.resource], (self.prefix if right.resource == "topic" else "") + right.name,
                PATTERNS[right.pattern], f"User:{right.user}", "*", OPERATIONS[right.operation], ALLOW,
            )
            for right in of_kafka()
        ]  # fmt: skip
        return request_struct_class(rows)


_TEXT = CompactString("utf-8")


class _PasswordsResponse(Response):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_ms", Int32),
        ("results", CompactArray(("user", _TEXT), ("error", Int16), ("message", _TEXT), ("tags", TaggedFields))),
        ("tags", TaggedFields),
    )


class _PasswordsRequest(RequestStruct):  # type: ignore[misc]  # aiokafka carries no types
    """AlterUserScramCredentials."""

    FLEXIBLE_VERSION: ClassVar[bool] = True
    API_KEY = 51
    API_VERSION = 0
    RESPONSE_TYPE = _PasswordsResponse
    SCHEMA = Schema(
        ("deletions", CompactArray(("user", _TEXT), ("mechanism", Int8), ("tags", TaggedFields))),
        (
            "upsertions",
            CompactArray(
                ("user", _TEXT), ("mechanism", Int8), ("iterations", Int32), ("salt", CompactBytes),
                ("salted", CompactBytes), ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )  # fmt: skip


class _Passwords(Request[_PasswordsRequest]):  # type: ignore[misc]  # aiokafka carries no types
    API_KEY = 51

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self.passwords = passwords

    def build(self, request_struct_class: Any) -> Any:
        rows: list[tuple[Any, ...]] = []
        for user, password in self.passwords.items():
            salt = os.urandom(20)
            salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
            rows.append((user, SCRAM_SHA_512, ITERATIONS, salt, salted, {}))
        return request_struct_class([], rows, {})


async def set_passwords(admin: AIOKafkaAdminClient, passwords: Mapping[str, str]) -> None:
    """Change the passwords of users of Kafka; connections that are open stay open."""
    for _user, code, reason, _ in (await admin._send_to_controller(_Passwords(passwords))).results:
        if code:
            raise for_code(code)(reason)
