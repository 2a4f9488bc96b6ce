"""Every provider in a whole node: ``rtcore serve`` and a caller over real sockets, fakes behind.

``python -m tests.adapters`` holds the conversations and writes the table of ``docs/adapters.md``.
"""
