"""Other people's servers beside ours, under the same callers in the same run."""

from bench.peers.command import main

__all__ = ["main"]
