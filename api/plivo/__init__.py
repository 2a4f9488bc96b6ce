"""Plivo's side of the API: its REST client, its webhooks, its numbers."""
