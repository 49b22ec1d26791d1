"""The rankers of an evaluation, in the order in which the report shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from model_server.evaluation.boosted import Boosted
from model_server.evaluation.ease import Ease
from model_server.evaluation.harness import EvaluateConfig, EvaluationError
from model_server.evaluation.heuristics import HEURISTICS
from model_server.evaluation.scene import PLACEBOS, WITHOUT
from model_server.evaluation.trained import Blended, Bundled, Nets

if TYPE_CHECKING:
    from model_server.bundle import Bundle
    from model_server.evaluation.ranker import Ranker

_ALL: tuple[Ranker, ...] = (*HEURISTICS, Ease(), Boosted())
BASELINES: Mapping[str, Ranker] = {ranker.names[0]: ranker for ranker in _ALL}
"""What can be left out by name. The wide blend and our own stages are always judged."""


def rankers(config: EvaluateConfig, baselines: Sequence[str] | None, bundle: Bundle | None) -> list[Ranker]:
    """Every ranker of an evaluation; of the baselines those named, None for all. Raises EvaluationError."""
    named = BASELINES if baselines is None else baselines
    unknown = sorted(set(named) - set(BASELINES))
    if unknown:
        message = f"{unknown[0]!r} is no baseline; known are {', '.join(BASELINES)}"
        raise EvaluationError(message)
    encoder = config.train.encoder is not None
    chosen: list[Ranker] = [ranker for name, ranker in BASELINES.items() if name in set(named)]
    chosen += [Blended(), Nets(encoder)]
    if config.scene:
        chosen += [Nets(encoder, scene) for scene in (WITHOUT, *PLACEBOS)]
    if bundle is not None:
        chosen.append(Bundled(bundle))
    return chosen
