"""Faithful servers of the services' protocols on loopback, with scripted delays and faults."""
