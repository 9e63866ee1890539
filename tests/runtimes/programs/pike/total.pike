int total(int last) {
    int sum = 0;
    for (int i = 1; i <= last; i++) sum += i;
    return sum;
}
