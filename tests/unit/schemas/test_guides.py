"""The guides for producers and gateways say what the code does."""

import json
import re
import shlex
from pathlib import Path
from typing import get_args

from msgspec.structs import fields

from schemas import dead_letters, recommendations
from schemas.encoding import to_json
from schemas.events import Event, Scene, decode_run
from schemas.faults import Reason
from schemas.topics import KINDS
from tests.unit.schemas.test_events import Record

DOCS = Path(__file__).parents[3] / "docs"
EVENTS = (DOCS / "events.md").read_text()
CANDIDATES = (DOCS / "candidates.md").read_text()


def fenced(text: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_every_reason_is_explained_and_no_other() -> None:
    table = EVENTS.split("| reason |")[1]
    explained = {word for row in table.splitlines()[2:] for word in re.findall(r"`([a-z0-9 -]+)`", row.split("|")[1])}
    assert explained == set(get_args(Reason))


def test_every_field_and_header_is_explained() -> None:
    for kind in (Event, Scene):
        for field in fields(kind):
            assert f"`{field.name}`" in EVENTS, field.name
    for header in dead_letters.OURS - {dead_letters.NULL_VALUE}:
        assert header in EVENTS or f"`.{header.rpartition('.')[2]}`" in EVENTS, header


def test_the_table_of_kinds_is_that_of_the_code() -> None:
    rows = {cells[1].strip(" `"): cells[3] for row in EVENTS.splitlines() if len(cells := row.split("|")) == 5}
    for topic, kinds in KINDS.items():
        assert set(re.findall(r"`(.+?)`", rows[topic])) == kinds


def test_the_shell_example_is_an_event() -> None:
    line = fenced(EVENTS, "sh").split("|\n")[0].replace("$(date +%s000)", "1760000000000")
    key, value = shlex.split(line)[1].split("|")
    records = [Record(key.encode(), value.encode())]
    run = decode_run(records, kinds=KINDS["events.orders.v1"], now_ms=1_760_000_000_000, max_skew_ms=0, horizon_ms=0)
    assert [event.kind for event in run.events] == ["purchase"]


def test_the_python_example_compiles_and_sends_an_event_with_its_own_key() -> None:
    source = fenced(EVENTS, "python")
    compile(source, "events.md", "exec")
    assert re.findall(r'key="(.+?)"', source) == re.findall(r'"(?:user_id|item_id)": "(.+?)"', source)[::2]


def test_the_example_of_a_candidate_is_one_and_every_field_it_lacks_is_explained() -> None:
    candidate = recommendations.decode(fenced(CANDIDATES, "json").encode())
    told = set(json.loads(to_json(candidate))) | set(re.findall(r"`([a-z_]+)`", CANDIDATES))
    assert {field.name for field in fields(recommendations.Recommendation)} <= told
