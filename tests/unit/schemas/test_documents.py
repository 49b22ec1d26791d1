"""The committed documents are current, valid, and agree with what the decoders take."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from schemas import documents
from schemas.encoding import to_json
from tests.unit.schemas.test_events import BAD, KINDS, good
from tests.unit.schemas.test_outgoing import CANDIDATE, DECISION

# JSON Schema cannot say these: they concern the key, the bytes, the place in time or the topic.
BEYOND_A_SCHEMA = {"key mismatch", "kind", "time", "null key", "null value", "too large", "utf-8", "json"}


def schema(name: str) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads((documents.FOLDER / f"{name}.schema.json").read_bytes())
    return document


def test_the_committed_documents_are_current() -> None:
    assert documents.drift(documents.FOLDER) == [], "run `python -m schemas.documents --write` and commit the result"


def test_check_says_what_drifted_and_how_to_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(documents, "FOLDER", tmp_path)
    assert documents.main(["--write"]) == 0
    assert documents.main(["--check"]) == 0
    (tmp_path / "item.schema.json").write_text("{}")
    (tmp_path / "stray.json").write_text("{}")
    assert documents.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "item.schema.json, stray.json" in said
    assert "--write" in said


@pytest.mark.parametrize("name", documents.MESSAGES)
def test_each_schema_is_valid_itself(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))


def test_schemas_take_what_is_sent() -> None:
    Draft202012Validator(schema("recommendation")).validate(orjson.loads(to_json(CANDIDATE)))
    Draft202012Validator(schema("decision")).validate(orjson.loads(to_json(DECISION)))
    Draft202012Validator(schema("event")).validate(orjson.loads(good(scene={"lat": 1, "new": 2}).value or b""))


def test_the_event_schema_refuses_what_the_decoder_refuses() -> None:
    validator = Draft202012Validator(schema("event"))
    checked = 0
    for name, (reason, record) in BAD.items():
        if reason in BEYOND_A_SCHEMA or "bytes" in name or "character" in name or "NUL" in name or "digits" in name:
            continue
        try:
            value = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            continue
        assert not validator.is_valid(value), name
        checked += 1
    assert checked > 15


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            yield from [value] if name == "$ref" else references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    document = orjson.loads((documents.FOLDER / "asyncapi.json").read_bytes())
    assert document["asyncapi"] == "3.0.0"
    for reference in set(references(document)):
        part = document
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


def test_the_asyncapi_document_names_the_kinds_of_each_topic() -> None:
    document = orjson.loads((documents.FOLDER / "asyncapi.json").read_bytes())
    click = document["components"]["messages"]["click"]["payload"]["allOf"][1]["properties"]["kind"]["enum"]
    assert click == ["click"]
    assert set(click) < KINDS
