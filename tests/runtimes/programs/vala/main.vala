int main() {
    stdout.printf("%d\n", total(100));
    stdout.printf("%s\n", stdin.read_line());
    return 0;
}
