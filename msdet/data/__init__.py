"""Data sets: rendered ones read from disk, and training mixtures made on the fly from an RIR bank."""
