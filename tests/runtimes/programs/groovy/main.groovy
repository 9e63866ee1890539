println(new Total().upTo(100))
println(System.in.newReader().readLine())
