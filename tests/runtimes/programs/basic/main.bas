import total
print total(100)
line input "" word$
print word$
