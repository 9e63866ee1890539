include total.fs
create line 80 allot
100 total 0 .r cr
line 80 stdin read-line throw drop line swap type cr
