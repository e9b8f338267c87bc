"""`python -m broker` is `rowcast`."""

import sys

from broker.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
