"""What each command does; the front door wires them."""
