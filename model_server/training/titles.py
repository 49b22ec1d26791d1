"""The titles of a log as vectors, and the projection that its bundle will read titles by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_server.retrieval.titles import TitleVectors
from model_server.text.at_hand import RecordedTitles
from model_server.text.back_end import chosen, name_of
from model_server.text.library import Library, cache_folder
from model_server.text.projection import Projection, fitted

if TYPE_CHECKING:
    from model_server.training.config import TrainConfig
    from model_server.training.progress import Progress
    from model_server.training.recorded import Recorded


def recorded_titles(
    recorded: Recorded, config: TrainConfig, learned_until_ms: int, progress: Progress
) -> RecordedTitles | None:
    """Titles of all items of the log, None where none are read. Raises TextError.

    The projection is `config.projection`, else fitted on the items known before `learned_until_ms`.
    """
    given, family = config.projection, chosen(config.text, recorded.titles)
    if given is not None:
        name = given.back_end
    elif family is not None:
        name = name_of(family)
    else:
        return None
    library, known_ms = Library(name, cache_folder(config.model_dir)), recorded.known_ms
    with progress.step("titles", len({*recorded.titles})) as tick:
        raw = library.vectors(recorded.titles, tick)
    projection: Projection = given or fitted(name, raw[known_ms < learned_until_ms])
    return RecordedTitles(projection, TitleVectors(projection.of(raw), known_ms))
