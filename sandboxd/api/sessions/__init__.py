"""Sessions and their runs as the api keeps them, without HTTP: life, promises, what is owed."""
