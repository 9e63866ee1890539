#!/usr/bin/env escript
-include("total.hrl").

main(_) ->
    io:format("~w~n", [total(100)]),
    io:put_chars(io:get_line("")).
