"""``python -m rtcore``: the same as the ``rtcore`` command."""

from rtcore.cli import main

main()
