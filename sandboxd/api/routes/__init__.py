"""A module for each kind of request: takes it apart, asks the packages beside, answers."""
