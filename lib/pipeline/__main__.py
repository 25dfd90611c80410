"""`python -m lib.pipeline`, as make calls it."""

import sys

from lib.pipeline.commands import main

sys.exit(main())
