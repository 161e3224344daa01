"""The packed trainer: many members, one program, each with its own learning rate and streams."""
