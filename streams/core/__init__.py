"""What every room shares: records and effects of a batch, decoding, event time, the form of stored state. Pure."""
