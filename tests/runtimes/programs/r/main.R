source("total.R")
cat(total(100), "\n", sep = "")
cat(readLines(file("stdin"), 1), "\n", sep = "")
