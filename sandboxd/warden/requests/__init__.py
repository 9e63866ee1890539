"""Requests of the api: their dispatcher, their acts by subject, and the longer acts in modules of
their own."""
