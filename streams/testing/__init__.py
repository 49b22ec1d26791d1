"""The test kit: Kairos in one process over memory, a clock to move, an event builder, faults and the truth."""

from streams.testing.endings import Ending, differences, every_delivery, every_fault, late, shuffled
from streams.testing.events import (
    Draft,
    Entry,
    Message,
    add_to_cart,
    browse,
    click,
    event,
    feedback,
    item,
    no_item,
    purchase,
    send_back,
)
from streams.testing.harness import Harness
from streams.testing.log import Delivery
from streams.testing.poison import poison
from streams.testing.reading import Affected, Item, User
from streams.testing.steps import Fault
from streams.testing.times import Clock
from streams.testing.truth import wrong_rows

__all__ = [
    "Affected",
    "Clock",
    "Delivery",
    "Draft",
    "Ending",
    "Entry",
    "Fault",
    "Harness",
    "Item",
    "Message",
    "User",
    "add_to_cart",
    "browse",
    "click",
    "differences",
    "event",
    "every_delivery",
    "every_fault",
    "feedback",
    "item",
    "late",
    "no_item",
    "poison",
    "purchase",
    "send_back",
    "shuffled",
    "wrong_rows",
]
