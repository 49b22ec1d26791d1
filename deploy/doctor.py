"""`kairos doctor`: the looks of the stream side, and beside them the model side's."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.operations.doctor import Further


def doctor(argv: list[str]) -> int:
    """Print what is wrong and what to do about it; 1 when something is red."""
    from model_server.settings import ModelSettings
    from streams.operations.doctor import run
    from streams.service.settings import describe

    return run(argv, _further, {line.env for line in describe(ModelSettings)})


def _further(env: Mapping[str, str]) -> "Sequence[tuple[str, Further]]":
    from model_server.checkup import look_at_model

    features = env.get("KAIROS_FEATURES", "").strip()
    look = partial(look_at_model, env.get("KAIROS_MODEL_DIR", "").strip() or None, Path(features) if features else None)
    return [("model", look)]
