"""The pages that open offline: of an evaluation, a separated recording, a data set or a bank."""
