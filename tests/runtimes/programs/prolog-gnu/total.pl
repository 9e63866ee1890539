total(0, 0).
total(Last, Sum) :- Last > 0, Before is Last - 1, total(Before, Rest), Sum is Rest + Last.
