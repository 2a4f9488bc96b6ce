"""Tells others over HTTP what happens: webhooks, written with what they tell of, then delivered."""
