"""Claims against data: one judge for each kind of claim, and the record of a verdict."""
