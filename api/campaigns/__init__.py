"""Campaigns: lists of numbers that an agent calls, at the right hours, each attempt once."""
