module total_of
  implicit none
contains
  integer function total(last)
    integer, intent(in) :: last
    integer :: i
    total = sum([(i, i = 1, last)])
  end function
end module
