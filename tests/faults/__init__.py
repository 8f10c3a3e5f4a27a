"""Faults against whole workers: kills, pauses, rebalances, outages of broker and store. Every count must be exact after them."""
