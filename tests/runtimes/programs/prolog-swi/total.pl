total(Last, Sum) :- numlist(1, Last, Numbers), sum_list(Numbers, Sum).
