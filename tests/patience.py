"""What a bound in seconds means on a machine that is busy with other things, such as other tests."""

import os


def seconds(bound: float) -> float:
    """`bound`, multiplied by how many processes want each core (load average of the last minute; at least 1)."""
    return bound * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
