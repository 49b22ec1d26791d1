"""`kairos doctor`: the looks of the stream side, and beside them the model side's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from streams.service.settings import setting
from streams.settings import StreamSettings

if TYPE_CHECKING:
    from streams.operations.doctor import Further
    from streams.service.findings import Section


@dataclass(frozen=True)
class DoctorSettings(StreamSettings):
    """What `kairos doctor` needs: it judges what a worker would read, and the bundle."""

    model_dir: str | None = setting("KAIROS_MODEL_DIR", "Folder of model bundles.", default=None)


def doctor(argv: list[str]) -> int:
    """Print what is wrong and what to do about it; 1 when something is red."""
    from model_server.settings import ModelSettings
    from streams.operations.doctor import run
    from streams.service.settings import describe

    return run(argv, DoctorSettings, _further, {line.env for line in describe(ModelSettings)})


def _further(read: DoctorSettings) -> Sequence[tuple[str, Further]]:
    return [("model", partial(_model, read.model_dir, read.features))]


def _model(folder: str | None, features: Path | None) -> Section:
    """The model side's look; where its libraries are not installed that is told, and nothing more is known."""
    from streams.service.findings import Section

    try:
        from model_server.checkup import look_at_model
    except ModuleNotFoundError as missing:
        section = Section("model")
        section.yellow(
            f"The bundle was not looked at: {(missing.name or 'a library').partition('.')[0]} is not installed here.",
            "Ask where model workers run, or install kairos-push[model].",
        )
        return section
    return look_at_model(folder, features)
