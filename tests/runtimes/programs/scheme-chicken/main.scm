(import (chicken io))
(include "total.scm")
(print (total 100))
(print (read-line))
