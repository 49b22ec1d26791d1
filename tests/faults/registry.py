"""All faults: importing the modules that hold them is what registers them."""

from tests.faults import on_doors, on_kafka, on_log, on_redis, on_redis_groups, on_workers
from tests.faults.fault import FAULTS

MODULES = (on_workers, on_kafka, on_log, on_redis, on_redis_groups, on_doors)

__all__ = ["FAULTS", "MODULES"]
