with Ada.Text_IO; use Ada.Text_IO;
with Total;

procedure Main is
   Image : constant String := Integer'Image (Total.Up_To (100));
begin
   Put_Line (Image (2 .. Image'Last));
   Put_Line (Get_Line);
end Main;
