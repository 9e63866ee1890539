from total import total  # type: ignore[import-not-found]

print(total(100))
print(input())
