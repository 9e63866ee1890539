proc total {last} {
    set sum 0
    for {set i 1} {$i <= $last} {incr i} { incr sum $i }
    return $sum
}
