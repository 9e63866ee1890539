"""Virtual folders as the api keeps them, without HTTP: the shelf, mounts, tokens, offsets."""
