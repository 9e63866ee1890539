program main
  use total_of
  implicit none
  character(80) :: line
  print '(i0)', total(100)
  read '(a)', line
  print '(a)', trim(line)
end program
