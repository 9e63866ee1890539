class Total {
    int upTo(int last) { (1..last).sum() }
}
