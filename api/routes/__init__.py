"""One module per resource: a blueprint, what it shows, and handlers of a few lines."""
