"""From rows to counts: which bin a value falls in, which slot of a vector counts it. The reference's vectors are made here too. Pure."""
