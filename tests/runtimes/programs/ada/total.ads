package Total is
   function Up_To (Last : Integer) return Integer;
end Total;
