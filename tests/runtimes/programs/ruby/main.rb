require_relative 'total'

puts total(100)
puts gets
