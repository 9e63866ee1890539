total() {
    sum=0
    for i in $(seq "$1"); do sum=$((sum + i)); done
    echo "$sum"
}
