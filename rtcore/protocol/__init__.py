"""The carriers' line protocols, sans I/O: messages in, events out."""
