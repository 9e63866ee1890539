(defun total (last)
  (loop for i from 1 to last sum i))
