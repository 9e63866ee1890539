@ sum = 0
@ i = 1
while ($i <= 100)
    @ sum += $i
    @ i++
end
