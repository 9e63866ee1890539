object Main extends App {
  println(Total.upTo(100))
  println(scala.io.StdIn.readLine())
}
