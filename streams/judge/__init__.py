"""The judge, the state of one partition of digests: spans, single values, incidents, views. Knows models and no requests. Pure."""
