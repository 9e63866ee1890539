inherit "total.pike";

int main() {
    write("%d\n", total(100));
    write("%s\n", Stdio.stdin.gets());
    return 0;
}
