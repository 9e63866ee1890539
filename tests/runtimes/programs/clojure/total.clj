(defn total [end]
  (reduce + (range 1 (inc end))))
