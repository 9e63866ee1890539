"""Sessions and their runs in the api, without HTTP: registry, life, records, deferred writes."""
