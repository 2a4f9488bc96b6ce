"""A Plivo that is not there: its REST API, its callbacks, and telephones that answer."""

from rtcore.testing.plivo.call import CallOrder, PlacedCall, Target
from rtcore.testing.plivo.model import Account, Application, Callback, Hangup, OwnedNumber, Phone
from rtcore.testing.plivo.service import FakePlivo, Fault

__all__ = [
    "Account",
    "Application",
    "CallOrder",
    "Callback",
    "FakePlivo",
    "Fault",
    "Hangup",
    "OwnedNumber",
    "Phone",
    "PlacedCall",
    "Target",
]
