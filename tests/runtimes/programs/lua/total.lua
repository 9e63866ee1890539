return function(last)
    local sum = 0
    for i = 1, last do sum = sum + i end
    return sum
end
