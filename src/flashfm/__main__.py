"""`python -m flashfm` is the `flashfm` command."""

from flashfm.cli import main

main()
