"""Python runs this before anything else: a process named by FAULTS_CLOCK sees the time that its file shifts."""

import os
import time

_path = os.environ.get("FAULTS_CLOCK", "")
if _path:
    _time, _time_ns, _monotonic = time.time, time.time_ns, time.monotonic
    _known = [0.0, 0]  # read again after, offset in s

    def _offset_s() -> int:
        now_s = _monotonic()
        if now_s >= _known[0]:
            _known[0] = now_s + 0.1
            try:
                with open(_path) as file:  # noqa: PTH123 - pathlib is too slow to import in every process
                    _known[1] = int(file.read() or 0)
            except (OSError, ValueError):
                _known[1] = 0
        return int(_known[1])

    def _shifted_time() -> float:
        return _time() + _offset_s()

    def _shifted_time_ns() -> int:
        return _time_ns() + _offset_s() * 1_000_000_000

    time.time, time.time_ns = _shifted_time, _shifted_time_ns
