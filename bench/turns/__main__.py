"""``python -m bench.turns``."""

import sys

from bench.turns import main

sys.exit(main(sys.argv[1:]))
