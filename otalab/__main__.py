"""`python -m otalab`."""

import sys

from otalab.cli.main import main

sys.exit(main())
