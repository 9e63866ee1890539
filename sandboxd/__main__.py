"""`python -m sandboxd`."""

from .cli.main import main

raise SystemExit(main())
