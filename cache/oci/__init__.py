"""Nouns of the OCI image-spec: digests, descriptors, manifests, image configs, references."""
