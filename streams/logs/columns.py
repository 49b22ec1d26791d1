"""The columns of a foreign log as texts, numbers and times; ids stay the strings they were."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Objects = NDArray[np.object_]

NUMBERS = frozenset({"quantity", "price", "dwell_ms", "temperature_c", "lat", "lon"})
_MS_OF_UNIT = {"s": 1_000, "ms": 1, "us": 0.001}


class LogError(Exception):
    """A log that cannot be read; the text names the file, the fault and the way out."""


class Lines:
    """The lines of a log: a thin face over a data frame, so that no other module depends on one."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self._texts: dict[str, Objects] = {}
        self.names: tuple[str, ...] = tuple(str(name) for name in frame.columns)

    def __len__(self) -> int:
        return len(self._frame)

    def __getitem__(self, column: str) -> Any:
        return self._frame[column]

    def rows(self) -> list[dict[str, Any]]:
        """The lines as they are, None for what a line lacks."""
        frame = self._frame.astype(object)
        found: list[dict[str, Any]] = frame.where(frame.notna(), None).to_dict("records")
        return found

    def texts(self, column: str) -> Objects:
        """Texts of a column as text_column gives them, made once."""
        if column not in self._texts:
            self._texts[column] = text_column(self._frame[column])
        return self._texts[column]

    def where(self, alive: Bools) -> Lines:
        """The lines for which `alive` is true."""
        kept = Lines(self._frame[alive])
        kept._texts = {column: texts[alive] for column, texts in self._texts.items()}
        return kept

    def having(self, columns: Iterable[str]) -> Lines:
        """The lines with these columns too: one that is not there has no values."""
        missing = sorted(set(columns) - set(self.names))
        return Lines(self._frame.assign(**dict.fromkeys(missing))) if missing else self

    def hashes(self, columns: Iterable[str] | None = None) -> NDArray[np.uint64]:
        """64 bits a line over some columns or all, equal for lines of the same texts; 0 for a line without any.

        A column without a value adds nothing, be it there or not.
        """
        import numpy as np
        import pandas as pd

        total = np.zeros(len(self), np.uint64)
        for name in self.names if columns is None else columns:
            column = self._frame[name]
            texts = _digits(column) if column.dtype.kind == "f" else self.texts(name)
            present = texts != None  # noqa: E711  (element by element)
            key = blake2b(name.encode(), digest_size=8).hexdigest()
            total[present] += pd.util.hash_array(texts[present], hash_key=key, categorize=False)
        return total

    def matches(self, column: str, pattern: str) -> Bools:
        """True where the regular expression is found in the column's text; false where the line has none."""
        import re

        import numpy as np

        found = re.compile(pattern).search
        verdicts: dict[str | None, bool] = {None: False}
        for text in (texts := self.texts(column).tolist()):
            if text not in verdicts:
                verdicts[text] = found(text) is not None
        return np.array([verdicts[text] for text in texts], np.bool_)


def text_column(column: Any) -> Objects:
    """Texts of a column, stripped, None for missing; a float column of whole numbers (ids with gaps) loses its ".0".

    Raises LogError for whole floats beyond 2^53: such ids have already lost digits.
    """
    import numpy as np

    if column.dtype == object:
        return np.array([v.strip() or None if type(v) is str else _text(v) for v in column.tolist()], object)
    # A missing time among times would stay one.
    values = column.astype(object).to_numpy(dtype=object, na_value=None).tolist()
    if column.dtype.kind == "f":
        number = column.to_numpy(dtype=np.float64)
        if (np.abs(number[~np.isnan(number)]) > 2**53).any():
            msg = f"The column {column.name!r} holds floats above 2^53, which have lost digits; store it as text."
            raise LogError(msg)
        texts = [None if v is None else str(int(v)) if v.is_integer() else repr(v) for v in values]
    else:
        texts = [None if v is None else str(v).strip() or None for v in values]
    return np.array(texts, object)


def _text(value: Any) -> str | None:
    """Text of what may be anything."""
    import pandas as pd

    return None if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)) else str(value).strip() or None


def _digits(column: Any) -> Objects:
    """Texts of a column of floats, whatever they are: to compare lines by, not to make ids of."""
    import numpy as np

    return np.array([None if v != v else repr(v) for v in column.to_numpy(dtype=np.float64).tolist()], object)  # noqa: PLR0124


def number_column(texts: Objects) -> NDArray[np.float64]:
    """Numbers of texts; NaN where there is none, infinite where the text is no finite number."""
    import numpy as np

    def number(text: str | None) -> float:
        if text is None:
            return np.nan
        try:
            value = float(text)
        except ValueError:
            return np.inf
        return value if np.isfinite(value) else np.inf

    known = {text: number(text) for text in set(texts.tolist())}
    return np.array([known[text] for text in texts.tolist()], np.float64)


def event_times_ms(column: Any, unit: str, zone: str) -> NDArray[np.int64]:
    """Event times in ms since 1970; 0 where the text is no time.

    Stamps without a zone are local to `zone`; a doubled hour is taken as its first pass, a skipped one moves on.
    """
    import numpy as np
    import pandas as pd

    if unit != "text":
        numbers = number_column(text_column(column))
        numbers[~np.isfinite(numbers)] = 0
        return (numbers * _MS_OF_UNIT[unit]).astype(np.int64)
    try:
        stamps = pd.to_datetime(column, errors="coerce", format="ISO8601")
    except ValueError:  # stamps of several zones
        return _times_of_zones(column, zone)
    if stamps.dt.tz is None:
        stamps = stamps.dt.tz_localize(zone, ambiguous=np.ones(len(stamps), np.bool_), nonexistent="shift_forward")
    values: NDArray[np.int64] = (
        stamps.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[ms]").astype(np.int64)
    )
    values[stamps.isna().to_numpy()] = 0
    return values


def _times_of_zones(column: Any, zone: str) -> NDArray[np.int64]:
    """Event times in ms of stamps that carry different zones, or none, which is `zone`."""
    import numpy as np
    import pandas as pd

    zoned = zoned_stamps(column)
    values = np.zeros(len(column), np.int64)
    stamps = pd.to_datetime(column[zoned], errors="coerce", format="ISO8601", utc=True)
    found = stamps.dt.tz_localize(None).to_numpy("datetime64[ms]").astype(np.int64)
    found[stamps.isna().to_numpy()] = 0
    values[zoned] = found
    if not zoned.all():
        values[~zoned] = event_times_ms(column[~zoned], "text", zone)
    return values


def zoned_stamps(column: Any) -> Bools:
    """Which stamps of a column say their zone."""
    import numpy as np

    if getattr(column.dtype, "tz", None) is not None:
        return np.ones(len(column), np.bool_)
    said: Bools = column.astype(str).str.contains(r"(?:Z|[+-]\d\d:?\d\d)\s*$", regex=True).to_numpy(np.bool_)
    return said
