Code.require_file("total.ex")

IO.puts(Total.up_to(100))
IO.write(IO.gets(""))
