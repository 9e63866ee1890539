from total import total

print(total(100))
print(input())
