require "./total"

puts total(100)
puts gets
