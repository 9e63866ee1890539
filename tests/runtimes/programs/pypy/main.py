"""A program of two files."""

from total import total  # type: ignore[import-not-found]  # it is beside this file in a session

print(total(100))
print(input())
