def total(last: int) -> int:
    return sum(range(1, last + 1))
