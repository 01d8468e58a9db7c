"""Where base images come from: one module for each transport of FROM."""
