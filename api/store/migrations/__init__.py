"""The shapes the database has had, in order; each is a file of `versions`."""
