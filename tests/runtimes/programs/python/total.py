def total(last):
    return sum(range(1, last + 1))
