"""`python -m lightning_proxy`: the command line."""

from lightning_proxy.cli import main

main()
