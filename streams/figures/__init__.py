"""Every number that a vector holds, for reading. Pure functions of counts."""
