module total;

int upTo(int last) {
    int sum;
    foreach (i; 1 .. last + 1) sum += i;
    return sum;
}
