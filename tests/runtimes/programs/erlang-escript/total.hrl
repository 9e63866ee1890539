total(Last) -> lists:sum(lists:seq(1, Last)).
