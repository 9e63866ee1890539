function total(last,    i, sum) {
    for (i = 1; i <= last; i++) sum += i
    return sum
}
