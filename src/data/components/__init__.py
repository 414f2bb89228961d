"""Building blocks of the data modules: sources, parsing, storage, splits, rotation, datasets."""
