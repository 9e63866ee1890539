#lang racket/base
(provide total)
(define (total last)
  (for/sum ([i (in-range 1 (+ last 1))]) i))
