"""The figures of the benchmarks are of one work, whatever the default declaration becomes."""

from streams.features.features_file import load
from tests.bench.installation import REFERENCE


def test_the_reference_work_is_what_its_file_says_it_is() -> None:
    declared = load(REFERENCE)
    found = {
        "kinds": [kind.wire for kind in declared.kinds],
        "windows": [window.name for window in declared.windows],
        "scene": [field.name for field in declared.scene],
        "history": declared.history,
        "hour of week": declared.hour_of_week,
    }
    assert found == {
        "kinds": ["click", "browse"],
        "windows": ["5min", "1h", "24h"],
        "scene": ["device"],
        "history": 16,
        "hour of week": False,
    }, "what DEFAULT got and the reference work must not have is taken out in tests/bench/reference.toml"
