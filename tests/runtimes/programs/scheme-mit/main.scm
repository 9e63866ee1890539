(load "total.scm")
(display (total 100)) (newline)
(display (read-line)) (newline)
