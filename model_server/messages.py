"""The records of one user's ending: its decision, the candidates sent, and the candidates taken back."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from model_server.facts import Person
from model_server.heads.grades import NAMES, Chances
from model_server.items import ItemArrays
from model_server.policy.decide import Ending
from model_server.policy.identity import collapse_key, dedup_key
from model_server.policy.pushes import Push, Retraction, encode, mark_retracted
from model_server.policy.settings import DAY_MS, PolicySettings
from model_server.queue import Lease
from model_server.scoring import Scored
from schemas import decisions, recommendations
from schemas.decisions import Chosen, Decision
from schemas.recommendations import (
    Caps,
    Exploration,
    Grade,
    Guard,
    Offer,
    QuietHours,
    Recipient,
    Recommendation,
    Scores,
)
from schemas.recommendations import Versions as VersionsOf
from schemas.topics import Outlets
from streams.features.declaration import BACKFILL
from streams.service.outbox import Outgoing

DIGITS = 5
"""Kept of the shares that a score is owed to."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One user's end: how, by which model, and, where it was scored, as which row of the result.

    `left_ms`: when its batch left for the ranker. `because`: what the score of each pick that is sent is owed to.
    """

    lease: Lease
    person: Person
    ending: Ending
    model: str
    waited_ms: dict[str, float]
    scored: Scored | None = None
    at: int = 0
    left_ms: int | None = None
    because: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True, slots=True)
class Records:
    """What one user's end sends, the decision first, and the push log it leaves (empty: as it was)."""

    decision: Outgoing
    candidates: list[Outgoing]
    push_log: bytes
    sent: list[Recommendation]
    retracted: int


@dataclass(frozen=True)
class Scribe:
    """Writes the records of one installation: where they go and which versions took part."""

    outlets: Outlets
    namespace: str
    run_id: str
    schema: int
    policy: PolicySettings

    @cached_property
    def policy_version(self) -> str:
        """Changes whenever a threshold does."""
        return f"{zlib.crc32(repr(self.policy).encode()):08x}"

    @property
    def source(self) -> str:
        """Names the installation in every record."""
        return f"/kairos/{self.namespace}"

    def records(self, ended: Ended, items: ItemArrays, now_ms: int) -> Records:
        """Everything that this end sends. `items` may have grown since the scoring: an item keeps its index."""
        page = _Page(self, ended, items, now_ms)
        back = [page.retracted(taken) for taken in ended.person.retractions]
        picks = ended.ending.picks if ended.ending.outcome == "sent" else ()
        sent = [page.candidate(k, slot) for slot, k in enumerate(picks)]
        decision = decisions.encode(page.decision(sent), self.source)
        candidates = [recommendations.encode(candidate, self.source) for candidate in (*back, *sent)]
        partition = ended.lease.partition
        return Records(
            Outgoing(self.outlets.decisions, decision, partition),
            [Outgoing(self.outlets.recommendations, candidate, partition) for candidate in candidates],
            page.push_log(sent) if candidates else b"",
            sent,
            len(back),
        )


class _Page:
    """The records of one user, who share ids, versions and time."""

    def __init__(self, scribe: Scribe, ended: Ended, items: ItemArrays, now_ms: int) -> None:
        self.scribe, self.ended, self.items, self.now_ms = scribe, ended, items, now_ms
        self.user = ended.lease.user.decode()
        text = f"{self.user}\0{ended.model}\0{now_ms}\0".encode()
        self.decision_id = blake2b(text + ended.person.row, digest_size=16).hexdigest()
        self.versions = VersionsOf(ended.model, str(scribe.schema), scribe.policy_version)

    def decision(self, sent: list[Recommendation]) -> Decision:
        ended = self.ended
        scored = ended.scored
        chosen = [Chosen(c.item.id, c.slot, c.dedup_key, c.scores, c.grade, c.because) for c in sent]
        if not sent and scored is not None and ended.ending.picks:
            best = ended.ending.picks[0]
            item = self.items.ids[int(scored.item[ended.at, best])]
            chosen = [Chosen(item, scores=self._scores(scored, best), grade=self._grade(scored, best))]
        return Decision(
            decision_id=self.decision_id,
            user=self.user,
            ts_ms=self.now_ms,
            outcome=ended.ending.outcome,
            steps=ended.ending.steps,
            chosen=chosen,
            candidates=None if scored is None else int((scored.item[ended.at] >= 0).sum()),
            retry_ms=ended.ending.retry_ms,
            versions=self.versions,
            waited_ms=ended.waited_ms,
            mode=self.scribe.outlets.mode,
            run_id=self.scribe.run_id,
        )

    def candidate(self, k: int, slot: int) -> Recommendation:
        ended, person, policy = self.ended, self.ended.person, self.scribe.policy
        scored = ended.scored
        if scored is None:
            text = f"User {self.user} was sent a candidate without a score: this is a defect of the worker."
            raise RuntimeError(text)
        index = int(scored.item[ended.at, k])
        collapse = collapse_key(self.user, slot)
        expires_ms = self.now_ms + policy.life_ms
        return Recommendation(
            dedup_key=dedup_key(self.user, self.items.ids[index], self._before_ms(self.items.ids[index])),
            status="updated" if self._replaces(collapse) else "new",
            mode=self.scribe.outlets.mode,
            run_id=self.scribe.run_id,
            decision_id=self.decision_id,
            decided_ms=self.now_ms,
            user=self._recipient(),
            item=self._offer(index),
            slot=slot,
            collapse_key=collapse,
            priority="normal" if ended.lease.priority == BACKFILL else "high",
            relevance=self._relevance(scored, k),
            grade=self._grade(scored, k),
            expires_ms=min(expires_ms, person.night.next_ms or expires_ms),
            quiet_hours=self._quiet_hours(),
            caps=self._caps(),
            guards=self._guards(index),
            scores=self._scores(scored, k),
            versions=self.versions,
            exploration=_exploration(float(scored.propensity[ended.at, k])),
            reasons=_reasons(int(scored.reasons[ended.at, k]), scored.reason_names),
            because={part: round(share, DIGITS) for part, share in ended.because[slot].items()},
            waited_ms=ended.waited_ms,
        )

    def retracted(self, taken: Retraction) -> Recommendation:
        push = taken.push
        return Recommendation(
            dedup_key=push.dedup_key,
            status="retracted",
            mode=self.scribe.outlets.mode,
            run_id=self.scribe.run_id,
            decision_id=self.decision_id,
            decided_ms=self.now_ms,
            user=self._recipient(),
            item=Offer(push.item),
            slot=push.slot,
            collapse_key=push.collapse_key,
            priority="high",
            relevance=0.0,
            expires_ms=push.expires_ms,
            versions=self.versions,
            reasons=[taken.rule],
        )

    def push_log(self, sent: list[Recommendation]) -> bytes:
        person = self.ended.person
        new = [
            Push(c.item.id, self._code(c.item.id), self.now_ms, c.expires_ms, c.dedup_key, c.collapse_key, c.slot)
            for c in sent
        ]
        return encode([*mark_retracted(person.log, person.retractions), *new])

    def _code(self, item_id: str) -> int:
        return int(self.items.codes[self.items.index_of(item_id)])

    def _before_ms(self, item_id: str) -> int:
        """When the item was last pushed to this user, as far as its push log reaches; 0 for never."""
        return max((push.ts_ms for push in self.ended.person.log if push.item == item_id), default=0)

    def _replaces(self, collapse: str) -> bool:
        """Whether a candidate of this slot may still be unread."""
        log = self.ended.person.log
        return any(p.collapse_key == collapse and p.expires_ms > self.now_ms and not p.retracted for p in log)

    def _recipient(self) -> Recipient:
        return Recipient(self.user, self.ended.person.zone, self.ended.person.locale or None)

    def _offer(self, index: int) -> Offer:
        entry = self.items.entries[index]
        if entry is None:
            return Offer(self.items.ids[index])
        return Offer(self.items.ids[index], entry.title, entry.image, entry.price, entry.currency, entry.url)

    def _quiet_hours(self) -> QuietHours | None:
        start, end = self.scribe.policy.quiet_hours.split("-")
        return None if start == end else QuietHours(start, end, self.ended.person.zone)

    def _caps(self) -> Caps:
        policy, person = self.scribe.policy, self.ended.person
        last_ms = max((push.ts_ms for push in person.log), default=None)
        return Caps(person.pushed_day, policy.daily_cap, DAY_MS, round(policy.minimum_gap_s * 1000), last_ms)

    def _guards(self, index: int) -> list[Guard]:
        entry = self.items.entries[index]
        catalogue = None if entry is None or entry.ts_ms is None else f"catalogue@{entry.ts_ms}"
        guards = [Guard("in_stock", bool(self.items.in_stock[index]), catalogue), Guard("not_bought", value=True)]
        if entry is not None and entry.price is not None:
            guards.append(Guard("price_at_most", entry.price, catalogue))
        return guards

    def _scores(self, scored: Scored, k: int) -> Scores:
        at = self.ended.at
        return Scores(
            float(scored.final[at, k]),
            float(scored.p_open[at, k]),
            float(scored.p_buy[at, k]),
            float(scored.p_optout[at, k]),
            float(scored.p_rec[at, k]),
            float(scored.p_best[at, k]),
            float(scored.p_anyway[at, k]),
        )

    def _relevance(self, scored: Scored, k: int) -> float:
        at = self.ended.at
        return float(Chances(scored.p_rec[at, k], scored.p_best[at, k]).expected)

    def _grade(self, scored: Scored, k: int) -> Grade:
        return NAMES[int(scored.grade[self.ended.at, k])]


def _exploration(propensity: float) -> Exploration | None:
    return None if propensity >= 1 else Exploration("retrieval", propensity, "explored")


def _reasons(mask: int, names: tuple[str, ...]) -> list[str]:
    return [name for bit, name in enumerate(names) if mask >> bit & 1]
