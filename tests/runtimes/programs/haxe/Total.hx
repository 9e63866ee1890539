class Total {
    public static function upTo(last: Int): Int {
        var sum = 0;
        for (i in 1...last + 1) sum += i;
        return sum;
    }
}
