"""What a model worker tells Prometheus: how long users waited and where, how batches were filled, how users ended."""

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from model_server.batcher import Batch
from model_server.items import Poll
from model_server.messages import Ended, Records
from model_server.policy.decide import Ending
from model_server.queue import Taken
from model_server.scoring import Scored
from streams.features.declaration import CLASSES

T = TypeVar("T")

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10, 30, 60, 300, 3600)
_FORWARD = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS = (64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75)


class ModelMetrics:
    """All metrics of one worker, in a registry of its own; `delays_ms` is what each class adds to its event's time."""

    def __init__(self, registry: CollectorRegistry, delays_ms: Sequence[int]) -> None:
        self.registry, self._delays_ms = registry, delays_ms

        def counter(name: str, doc: str, *labels: str) -> Counter:
            return Counter(f"kairos_{name}", doc, labels, registry=registry)

        def gauge(name: str, doc: str, *labels: str) -> Gauge:
            return Gauge(f"kairos_{name}", doc, labels, registry=registry)

        def histogram(name: str, doc: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"kairos_{name}", doc, labels, buckets=buckets, registry=registry)

        self.event_to_candidate = histogram(
            "event_to_candidate_seconds", "From an event to the candidate acknowledged, by class.", _SECONDS, "class"
        )
        self.event_to_decision = histogram(
            "event_to_decision_seconds", "From that event to the user's decision, by class.", _SECONDS, "class"
        )
        self.queue_wait = histogram("queue_wait_seconds", "From deadline to lease, by class.", _SECONDS, "class")
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
        self.stage = histogram("stage_seconds", "Stages of a batch from the lease to Kafka.", _FORWARD, "stage")
        self.decisions = counter("decisions_total", "Users by how they ended and why.", "outcome", "stage", "rule")
        self.candidates = counter("candidates_total", "Candidates produced, by status.", "status")
        self.items = gauge("items", "Items held in memory.")
        self.titles_waiting = gauge("titles_waiting", "Items whose titles are still to be read.")
        self.items_seen = gauge("items_seen_timestamp_seconds", "When the streams of touched items were last read.")
        self.item_reloads = counter("item_reloads_total", "Item partitions read anew after falling behind.")
        self.model = gauge("model_info", "1 for the model that serves.", "version")
        self.reloads = counter("model_reloads_total", "Looks at new bundles that changed or failed.", "result")

    def serving(self, version: str) -> None:
        """Say which model serves from now on."""
        self.model.clear()
        self.model.labels(version).set(1)

    def users_leased(self, taken: Taken, now_ms: int) -> None:
        """Account for one round of leases."""
        self.queue_depth.set(taken.depth)
        self.expiries.inc(taken.expired)
        for priority, leases in _by_class(taken.leases, lambda lease: lease.priority).items():
            self.leased.labels(CLASSES[priority]).inc(len(leases))
            wait = self.queue_wait.labels(CLASSES[priority])
            for lease in leases:
                wait.observe(max(now_ms - lease.deadline_ms, 0) / 1000)

    def items_read(self, known: int, poll: Poll | None) -> None:
        """Account for one look at what changed of the items, or for the first load of all."""
        self.items.set(known)
        self.items_seen.set_to_current_time()
        self.item_reloads.inc(poll is not None and poll.reloaded)

    def users_batched(self, batch: Batch[Any], now_ms: int) -> None:
        """Account for how long each user of a batch that leaves has waited for company."""
        for user in batch.users:
            self.batch_wait.observe((now_ms - user.since_ms) / 1000)

    def batch_scored(self, batch: Batch[Any], scored: Scored) -> None:
        """Account for one batch; its padding is what the ranker computed, where it says so."""
        tokens, padded = scored.tokens or batch.tokens, scored.padded_tokens or batch.padded_tokens
        self.batches.labels(batch.reason).inc()
        self.batch_users.observe(len(batch.users))
        self.batch_tokens.observe(tokens)
        self.padding.observe(1 - tokens / max(padded, 1))
        stages_ms = {"retrieve": scored.retrieve_ms, "collate": scored.collate_ms, "forward": scored.forward_ms}
        bucket = 1 << (max(user.tokens for user in batch.users) - 1).bit_length()
        self.score.labels(str(bucket)).observe(sum(stages_ms.values()) / 1000)
        for stage, spent_ms in stages_ms.items():
            self.stage_took(stage, spent_ms)

    def stage_took(self, stage: str, spent_ms: float) -> None:
        """Account for one of the stages between the queue and the acknowledgement."""
        self.stage.labels(stage).observe(spent_ms / 1000)

    def users_ended(self, ended: Sequence[Ended], records: Sequence[Records], produced_ms: int) -> None:
        """Account for users whose records are acknowledged at `produced_ms`."""
        for labels, n in Counts(_why(each.ending) for each in ended).items():
            self.decisions.labels(*labels).inc(n)
        for status, n in Counts(candidate.status for record in records for candidate in record.sent).items():
            self.candidates.labels(status).inc(n)
        self.candidates.labels("retracted").inc(sum(record.retracted for record in records))
        pairs = zip(ended, records, strict=True)
        for priority, group in _by_class(pairs, lambda pair: pair[0].lease.priority).items():
            decided = self.event_to_decision.labels(CLASSES[priority])
            sent = self.event_to_candidate.labels(CLASSES[priority])
            for each, record in group:
                since_s = max(produced_ms - each.lease.deadline_ms + self._delays_ms[priority], 0) / 1000
                decided.observe(since_s)
                if record.sent:
                    sent.observe(since_s)


def _why(ending: Ending) -> tuple[str, str, str]:
    """Outcome, and stage and rule of the step that settled it; none settled one who passed all."""
    step = ending.steps[-1]
    return (ending.outcome, "", "") if ending.outcome == "sent" else (ending.outcome, step.stage, step.rule)


def _by_class(things: Iterable[T], priority: Callable[[T], int]) -> dict[int, list[T]]:
    """Things by their class in the queue, so that a metric's labels are looked up once a class."""
    groups: dict[int, list[T]] = {}
    for thing in things:
        groups.setdefault(priority(thing), []).append(thing)
    return groups
