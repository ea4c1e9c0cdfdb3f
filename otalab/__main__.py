"""`python -m otalab`."""

import sys

from otalab.cli import main

sys.exit(main())
