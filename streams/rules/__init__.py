"""Which numbers of one span are findings: past their limit and past the false-alarm budget. Pure."""
