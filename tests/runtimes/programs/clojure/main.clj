(load-file "total.clj")
(println (total 100))
(println (read-line))
