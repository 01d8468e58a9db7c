"""A client of the OCI distribution-spec."""
