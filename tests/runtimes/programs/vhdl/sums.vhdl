package sums is
  function total(last : integer) return integer;
end package;

package body sums is
  function total(last : integer) return integer is
    variable sum : integer := 0;
  begin
    for i in 1 to last loop
      sum := sum + i;
    end loop;
    return sum;
  end function;
end package body;
