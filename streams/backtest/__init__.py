"""The same cores fed from a recorded log, and its report."""
