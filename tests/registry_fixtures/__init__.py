"""Real registries on the loopback, a token server, and a proxy that goes wrong as it is told."""
