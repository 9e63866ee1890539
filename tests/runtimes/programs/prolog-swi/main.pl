:- consult(total).

main :-
    total(100, Sum), format("~w~n", [Sum]),
    read_term(user_input, Word, []), format("~w~n", [Word]).
