"""Short links: a small web service that remembers addresses."""
