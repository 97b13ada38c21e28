"""`python -m robench`."""

from robench.cli.main import main

main()
