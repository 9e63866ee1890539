fun main() {
    println(total(100))
    println(readLine())
}
