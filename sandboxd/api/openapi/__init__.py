"""The OpenAPI document of the API, made from the records of its routes."""
