"""The guarantees of this host: what is tried at every start and by `sandboxd doctor`."""
