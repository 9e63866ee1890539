"""The second file of the program."""


def total(last: int) -> int:
    return sum(range(1, last + 1))
