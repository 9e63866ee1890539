package body Total is
   function Up_To (Last : Integer) return Integer is
      Sum : Integer := 0;
   begin
      for I in 1 .. Last loop
         Sum := Sum + I;
      end loop;
      return Sum;
   end Up_To;
end Total;
