proc upTo*(last: int): int =
  for i in 1 .. last:
    result += i
