"""Programs that measure Leadline, each beside something else on the same machine in the same run."""
