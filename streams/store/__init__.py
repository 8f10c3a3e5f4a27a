"""Redis: the contract of an owner's tables, its one commit, and who may write."""
