"""Training joint models with Lightning, and their checkpoints."""
