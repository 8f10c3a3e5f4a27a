"""The same monitoring job on other engines, each in a process of its own (see ``benchmarks/README.md``)."""
