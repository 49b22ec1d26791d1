"""Python runs this before anything else: the time is what the file named by FAULTS_CLOCK shifts it to, and on SIGUSR1 a
process writes where its threads and tasks stand.
"""

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

    import signal

    def _tell_stacks(*_: object) -> None:
        import asyncio.tasks
        import faulthandler
        import sys

        faulthandler.dump_traceback()
        known = vars(asyncio.tasks)  # of all loops: of every thread
        for task in [*(known.get("_scheduled_tasks") or known["_all_tasks"])]:
            if not task.done():
                task.print_stack(file=sys.stderr)

    signal.signal(signal.SIGUSR1, _tell_stacks)
