-module(main).
-export([main/0]).

main() ->
    io:format("~w~n", [total:up_to(100)]),
    io:put_chars(io:get_line("")).
