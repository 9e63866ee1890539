exports.total = (last) -> [1..last].reduce (a, b) -> a + b
