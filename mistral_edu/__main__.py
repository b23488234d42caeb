"""`python -m mistral_edu` is the `mistral-edu` command."""

import sys

from mistral_edu.cli import main

if __name__ == "__main__":
    sys.exit(main())
