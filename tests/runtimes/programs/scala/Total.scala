object Total {
  def upTo(last: Int): Int = (1 to last).sum
}
