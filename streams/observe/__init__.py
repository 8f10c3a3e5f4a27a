"""The observer, the state of one source partition: joins, counts, samples, digests. Knows requests and no history. Pure."""
