"""Pure statistics: numbers in, verdicts out. No clock, no I/O, no logging; numpy, scipy and river only."""
