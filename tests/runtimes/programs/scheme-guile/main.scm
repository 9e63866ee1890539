(use-modules (ice-9 rdelim))
(load "total.scm")
(display (total 100)) (newline)
(display (read-line)) (newline)
