define i32 @total(i32 %last) {
entry:
  br label %loop
loop:
  %i = phi i32 [ 1, %entry ], [ %next, %loop ]
  %sum = phi i32 [ 0, %entry ], [ %more, %loop ]
  %more = add i32 %sum, %i
  %next = add i32 %i, 1
  %done = icmp sgt i32 %next, %last
  br i1 %done, label %end, label %loop
end:
  ret i32 %more
}
