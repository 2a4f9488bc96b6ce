"""The load generator: hundreds of telephone calls from one core, and proof that it kept up.

One epoll loop without tasks sends every call's 20 ms frame at its absolute time and plays what
comes back in a virtual ear. It knows nothing of the node: any server that speaks Plivo's stream
protocol can be loaded with it.
"""

from bench.load.caller import Plan
from bench.load.engine import SETTLE_S, Load, LoadError
from bench.load.lines import Network
from bench.load.results import Heard, Step

__all__ = ["SETTLE_S", "Heard", "Load", "LoadError", "Network", "Plan", "Step"]
