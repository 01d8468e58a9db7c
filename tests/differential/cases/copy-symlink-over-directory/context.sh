mkdir tree; ln -s elsewhere tree/data
