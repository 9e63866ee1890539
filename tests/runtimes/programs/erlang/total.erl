-module(total).
-export([up_to/1]).

up_to(Last) -> lists:sum(lists:seq(1, Last)).
