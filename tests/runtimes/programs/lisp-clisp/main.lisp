(load "total.lisp" :verbose nil)
(format t "~d~%" (total 100))
(format t "~a~%" (read-line))
