#lang racket/base
(require "total.rkt")
(displayln (total 100))
(displayln (read-line))
