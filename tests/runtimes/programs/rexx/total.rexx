parse arg last
sum = 0
do i = 1 to last
  sum = sum + i
end
return sum
