(load "total.lisp")
(format t "~d~%" (total 100))
(format t "~a~%" (read-line))
