"""Lets ``python -m kstock_batch`` do what ``kstock-batch`` does."""

from kstock_batch.cli import main

main()
