"""Calls: how they begin, are steered, end and are remembered."""
