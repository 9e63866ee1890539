total() {
    local -a numbers=({1..$1})
    echo $(( ${(j:+:)numbers} ))
}
