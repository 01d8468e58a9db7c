"""What a build can be written out as: one module for each output type."""
