: total ( last -- sum ) 0 swap 1+ 1 ?do i + loop ;
