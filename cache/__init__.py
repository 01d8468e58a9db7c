"""Everything content-addressed: layers, images, blobs, step records, registries."""
