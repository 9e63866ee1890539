(define (total last)
  (if (= last 0) 0 (+ last (total (- last 1)))))
