"""Every Redis key of Kairos; all keys of one input partition share a hash tag, hence one Cluster slot."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """The hash tags of one namespace; the static methods build the keys on a tag."""

    namespace: str = "main"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", self.namespace):
            msg = f"The namespace {self.namespace!r} must be 1 to 100 of the characters A-Z a-z 0-9 . _ -"
            raise ValueError(msg)

    def user_tag(self, partition: int) -> bytes:
        return b"{kairos:%b:%d}" % (self.namespace.encode(), partition)

    def item_tag(self, partition: int) -> bytes:
        return b"{kairos:%b:i%d}" % (self.namespace.encode(), partition)

    @staticmethod
    def installation(name: str) -> bytes:
        """HASH: the namespaces in force for an installation."""
        return b"{kairos:%b}:live" % name.encode()

    @staticmethod
    def runs(installation: str) -> bytes:
        """HASH: what is known of each run that was built beside an installation, as JSON by its namespace."""
        return b"{kairos:%b}:runs" % installation.encode()

    @staticmethod
    def workers(installation: str) -> bytes:
        """SET: the ids of an installation's workers."""
        return b"{kairos:%b}:workers" % installation.encode()

    @staticmethod
    def worker(installation: str, worker: str) -> bytes:
        """STRING: what one worker tells of itself, as JSON, while it is there."""
        return b"{kairos:%b}:w:%b" % (installation.encode(), worker.encode())

    @staticmethod
    def turn(installation: str) -> bytes:
        """STRING: who promotes in an installation at the moment."""
        return b"{kairos:%b}:turn" % installation.encode()

    @staticmethod
    def meta(tag: bytes) -> bytes:
        """HASH: the fence (version token, topic ids, bases, last applied offsets, where a truncated log ended)."""
        return tag + b":m"

    @staticmethod
    def row(tag: bytes, user: bytes) -> bytes:
        """STRING: the feature row of one user."""
        return tag + b":u:" + user

    @staticmethod
    def queue(tag: bytes) -> bytes:
        """ZSET: affected users by deadline and class."""
        return tag + b":q"

    @staticmethod
    def leased(tag: bytes) -> bytes:
        """ZSET: users a model worker holds, by expiry in ms."""
        return tag + b":l"

    @staticmethod
    def pushes(tag: bytes, user: bytes) -> bytes:
        """STRING: the log of the last pushes to one user."""
        return tag + b":p:" + user

    @staticmethod
    def shadow_pushes(tag: bytes, user: bytes) -> bytes:
        """STRING: the log of what a shadow would have pushed to one user; it was never sent and counts for it alone."""
        return tag + b":s:" + user

    @staticmethod
    def erased(tag: bytes) -> bytes:
        """HASH: user -> until when, in ms, that user's events are left out; see `kairos erase`."""
        return tag + b":e"

    @staticmethod
    def item_rows(tag: bytes) -> bytes:
        """HASH: item id -> feature row."""
        return tag + b":r"

    @staticmethod
    def catalogue(tag: bytes) -> bytes:
        """HASH: item id -> catalogue entry as JSON."""
        return tag + b":c"

    def title_tag(self, shard: int) -> bytes:
        """The namespace is the installation's name: vectors of titles serve all its namespaces."""
        return b"{kairos:%b:t%d}" % (self.namespace.encode(), shard)

    @staticmethod
    def title_vector(tag: bytes, back_end: bytes, title: int) -> bytes:
        """STRING: the vector of a title as f16 numbers, empty while somebody reads the title; it expires."""
        return b"%b:v:%b:%016x" % (tag, back_end, title)

    @staticmethod
    def touched(tag: bytes) -> bytes:
        """STREAM: the item ids each applied chunk changed."""
        return tag + b":t"


class ShadowKeys(Keys):
    """The keys of a run for those who score it in shadow."""

    @staticmethod
    def pushes(tag: bytes, user: bytes) -> bytes:
        return Keys.shadow_pushes(tag, user)
