"""Remote step caches behind the RemoteCache protocol: one module for each backend."""
