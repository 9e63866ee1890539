"""Sessions and their runs in the api, without HTTP: registry, life, admission, deferred writes."""
