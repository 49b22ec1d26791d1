"""A trained model on disk: JSON and safetensors in a folder of its own, and a `current` file that names it.

<folder>/<version>/bundle.json          what it is: schema, counters, shapes, calibration, heads, how it was judged
<folder>/<version>/arrays.safetensors   trained ids, neighbours, blend weights
<folder>/<version>/weights.safetensors  the net, absent where the guard kept the blend
<folder>/<version>/card.md, card.png    for people, see `model_server.training.card`
<folder>/current                        the version to serve, see `model_server.model_folder`

BundleError(ValueError): a bundle that cannot serve; the text says why and what to do.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from model_server.blend import Blend
from model_server.blend_ranker import USUAL, BlendRanker
from model_server.heads.heads import Heads
from model_server.model_folder import BUNDLE, CURRENT
from model_server.preparation import Preparation
from model_server.retrieval.neighbours import Neighbours
from model_server.selection import Calibration
from model_server.text.at_hand import LiveTitles
from model_server.text.back_end import TextError, check
from model_server.text.projection import Projection

if TYPE_CHECKING:
    from model_server.scoring import Ranker
    from model_server.text.at_hand import Titles
    from model_server.text.back_end import Wish
    from streams.features.declaration import Declaration

FORMAT = 2
Arrays = Mapping[str, NDArray[Any]]


class BundleError(ValueError):
    """A bundle that cannot serve."""


@dataclass(frozen=True)
class Bundle:
    """Everything a ranker is made of; `weights` and `shape` are None where the blend serves.

    `calibrations`: "net" and "blend" -> (slope, shift). `report`: how it was judged, for people. `titles`: how it reads
    them, None where it reads none.
    """

    version: str
    schema: int
    counters: tuple[str, ...]
    lists: tuple[str, ...]
    history: int
    words: NDArray[np.uint64]
    neighbours: Neighbours
    blend: Blend
    calibrations: Mapping[str, tuple[float, float]]
    shape: Mapping[str, Any] | None
    weights: Arrays | None
    report: Mapping[str, Any]
    heads: Heads = field(default_factory=lambda: Heads.untrained(USUAL.slope, USUAL.shift))
    titles: Projection | None = None

    def __post_init__(self) -> None:
        wanted = 0 if self.shape is None else self.shape["widths"][-1]
        if len(self.heads.grading.weights) not in {0, wanted}:
            message = f"heads over {len(self.heads.grading.weights)} hidden numbers do not fit a net that has {wanted}"
            raise ValueError(message)


def save(folder: Path, bundle: Bundle, beside: Mapping[str, bytes] | None = None) -> Path:
    """Write the bundle, and files `beside` it, not yet in force; a reader sees the whole of it or nothing."""
    from safetensors.numpy import save_file

    target, draft = folder / bundle.version, folder / f".{bundle.version}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    arrays = {f"neighbours.{name}": part for name, part in bundle.neighbours.arrays().items()}
    if bundle.titles is not None:
        arrays |= {"titles.mean": bundle.titles.mean, "titles.axes": bundle.titles.axes}
    save_file({**arrays, "words": bundle.words, "blend": bundle.blend.weights}, draft / "arrays.safetensors")
    if bundle.weights is not None:
        save_file(dict(bundle.weights), draft / "weights.safetensors")
    (draft / BUNDLE).write_bytes(orjson.dumps(_document(bundle), option=orjson.OPT_INDENT_2))
    for name, content in (beside or {}).items():
        (draft / name).write_bytes(content)
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    return target


def _document(bundle: Bundle) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": bundle.version,
        "schema": bundle.schema,
        "counters": bundle.counters,
        "lists": bundle.lists,
        "history": bundle.history,
        "calibrations": bundle.calibrations,
        "shape": bundle.shape,
        "titles": None if bundle.titles is None else bundle.titles.back_end,
        "report": bundle.report,
        "heads": bundle.heads.document(),
    }


def load(folder: Path, version: str, declaration: Declaration) -> Bundle:
    """Read one version and check that it fits this process. Raises BundleError."""
    path = folder / version
    try:
        document = orjson.loads((path / BUNDLE).read_bytes())
        if document["format"] != FORMAT:
            message = f"{path} has format {document['format']}, this process reads format {FORMAT}: train a new bundle"
            raise BundleError(message)
        arrays = _arrays(path / "arrays.safetensors")
        shape, read_by = document["shape"], document.get("titles")
        bundle = Bundle(
            version=document["version"],
            schema=document["schema"],
            counters=tuple(document["counters"]),
            lists=tuple(document["lists"]),
            history=document["history"],
            words=arrays["words"],
            neighbours=Neighbours(
                **{n.removeprefix("neighbours."): a for n, a in arrays.items() if n.startswith("neighbours.")}
            ),
            blend=Blend(arrays["blend"]),
            calibrations=document["calibrations"],
            shape=shape,
            weights=None if shape is None else _arrays(path / "weights.safetensors"),
            report=document["report"],
            heads=Heads.of(document["heads"]),
            titles=None if read_by is None else Projection(read_by, arrays["titles.mean"], arrays["titles.axes"]),
        )
    except BundleError:
        raise
    except (OSError, KeyError, TypeError, ValueError) as error:
        message = (
            f"{path} is no whole bundle ({type(error).__name__}: {error}): train again, or point {CURRENT} to another"
        )
        raise BundleError(message) from error
    _check(bundle, path, declaration)
    return bundle


def _arrays(path: Path) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _check(bundle: Bundle, path: Path, declaration: Declaration) -> None:
    preparation = _preparation(bundle, declaration, None if bundle.titles is None else LiveTitles(bundle.titles))
    if bundle.schema != declaration.schema:
        message = (
            f"{path} was trained on rows of schema {bundle.schema}, this process reads schema {declaration.schema}: "
            "train again with the same features.toml"
        )
        raise BundleError(message)
    if bundle.counters != preparation.counters.names or bundle.lists != preparation.retriever.names:
        message = f"{path} knows other counters or lists than this release: train again"
        raise BundleError(message)
    if not bundle.heads.fits(declaration):
        message = f"{path} has heads for other rows than this process reads: train again"
        raise BundleError(message)
    titles = {} if bundle.titles is None else {"titles' mean": bundle.titles.mean, "titles' axes": bundle.titles.axes}
    for name, array in {"blend": bundle.blend.weights, **titles, **(bundle.weights or {})}.items():
        if not np.isfinite(array).all():
            message = f"{path} holds a number in {name} that is not finite: train again, or point {CURRENT} to another"
            raise BundleError(message)


def titles_of(bundle: Bundle, wish: Wish = "auto") -> LiveTitles | None:
    """Where the bundle's ranker gets the vectors of titles. Raises BundleError where this process cannot read them."""
    if bundle.titles is None:
        return None
    try:
        check(bundle.titles.back_end, wish)
    except TextError as error:
        message = f"bundle {bundle.version} cannot serve here, for {error}"
        raise BundleError(message) from error
    return LiveTitles(bundle.titles)


def _preparation(bundle: Bundle, declaration: Declaration, titles: Titles | None) -> Preparation:
    return Preparation(declaration, bundle.words, bundle.neighbours, history=bundle.history, titles=titles)


def ranker_of(bundle: Bundle, declaration: Declaration, device: str, titles: Titles | None = None) -> Ranker:
    """A warm ranker of the bundle; `titles`: as of `titles_of`, by default anew.

    Raises BundleError on weights that do not fit their shape.
    """
    preparation = _preparation(bundle, declaration, titles or titles_of(bundle))
    if bundle.weights is None or bundle.shape is None:
        calibration = Calibration(*bundle.calibrations["blend"])
        return BlendRanker(preparation, bundle.blend, calibration, bundle.heads, bundle.version)
    try:
        from model_server.ranker.load import net_of

        meaning = Calibration(*bundle.calibrations["net"]), bundle.heads
        return net_of(bundle.version, preparation, bundle.shape, bundle.weights, meaning, device)
    except ImportError as error:
        message = f"bundle {bundle.version} needs a package that does not import ({error}): install the extra 'model'"
        raise BundleError(message) from error
    except (RuntimeError, KeyError, TypeError) as error:
        message = f"the weights of bundle {bundle.version} do not fit their shape ({error}): train again"
        raise BundleError(message) from error
