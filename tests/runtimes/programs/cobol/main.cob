identification division.
program-id. total-of.
data division.
working-storage section.
copy "total.cpy".
01 word pic x(5).
procedure division.
    perform varying i from 1 by 1 until i > 100
        add i to total
    end-perform
    display total
    accept word
    display word
    stop run.
