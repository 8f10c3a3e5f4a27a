"""The process: owners that claim, fold and commit; what they owe is sent; start, stop, status."""
