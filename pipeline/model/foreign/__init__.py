"""Networks of others: their weights, packages and constructors on the way to one of our checkpoints."""
