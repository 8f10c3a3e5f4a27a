"""References: read from files, learned from the first rows, found by model. Pure but for reading files."""
