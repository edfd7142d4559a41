"""``python -m benchmarks.fuzz``: see :mod:`benchmarks.fuzz.run`, which workers import by its name."""

import sys

from benchmarks.fuzz.run import main

if __name__ == "__main__":
    sys.exit(main())
