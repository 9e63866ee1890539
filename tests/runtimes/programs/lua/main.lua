local total = require("total")
print(total(100))
print(io.read())
