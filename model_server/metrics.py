"""What a model worker tells Prometheus: how long users waited and where, how batches were filled, how users ended."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

CLASSES = ("purchase", "click", "browse", "back-fill")

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10, 30, 60, 300, 3600)
_FORWARD = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS = (64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75)


class ModelMetrics:
    """All metrics of one worker, in a registry of their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def counter(name: str, doc: str, *labels: str) -> Counter:
            return Counter(f"kairos_{name}", doc, labels, registry=registry)

        def gauge(name: str, doc: str, *labels: str) -> Gauge:
            return Gauge(f"kairos_{name}", doc, labels, registry=registry)

        def histogram(name: str, doc: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"kairos_{name}", doc, labels, buckets=buckets, registry=registry)

        self.event_to_candidate = histogram(
            "event_to_candidate_seconds", "From the event that affected a user to its acknowledged candidate.", _SECONDS
        )
        self.event_to_decision = histogram(
            "event_to_decision_seconds", "From that event to the user's decision, by class.", _SECONDS, "class"
        )
        self.queue_wait = histogram(
            "queue_wait_seconds", "From the deadline in the queue to the lease, by class.", _SECONDS, "class"
        )
        self.batch_wait = histogram("batch_wait_seconds", "From the lease to the batch.", _FORWARD)
        self.queue_depth = gauge("queue_depth", "Affected users in the queue, due or not, held ones included.")
        self.held = gauge("leases_held", "Users this worker holds.")
        self.leased = counter("leases_total", "Users leased, by class.", "class")
        self.expiries = counter("lease_expiries_total", "Leases of any worker that ran out and went back.")
        self.lost = counter("leases_lost_total", "Leases of ours that somebody else took over.")
        self.batches = counter("batches_total", "Batches by why they left.", "reason")
        self.batch_users = histogram("batch_users", "Users a batch.", _USERS)
        self.batch_tokens = histogram("batch_tokens", "Tokens a batch, without padding.", _TOKENS)
        self.padding = histogram("batch_padding_ratio", "Share of a batch's tokens that was padding.", _SHARES)
        self.score = histogram("score_seconds", "Scoring a batch, by length bucket in tokens.", _FORWARD, "bucket")
        self.stage = histogram("score_stage_seconds", "Parts of scoring a batch.", _FORWARD, "stage")
        self.decisions = counter("decisions_total", "Users by how they ended and why.", "outcome", "stage", "rule")
        self.candidates = counter("candidates_total", "Candidates produced, by status.", "status")
        self.items = gauge("items", "Items held in memory.")
        self.items_seen = gauge("items_seen_timestamp_seconds", "When the streams of touched items were last read.")
        self.item_reloads = counter("item_reloads_total", "Item partitions read anew after falling behind.")
        self.model = gauge("model_info", "1 for the model that serves.", "version")
        self.reloads = counter("model_reloads_total", "Looks at new bundles that changed or failed.", "result")

    def serving(self, version: str) -> None:
        """Say which model serves from now on."""
        self.model.clear()
        self.model.labels(version).set(1)


def observer(histogram: Histogram) -> Callable[[int, float], None]:
    """Observe seconds by class of the queue, without looking the label up each time."""
    children = [histogram.labels(name) for name in CLASSES]
    return lambda priority, seconds: children[priority].observe(max(seconds, 0.0))
