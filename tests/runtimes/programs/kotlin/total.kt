fun total(last: Int) = (1..last).sum()
