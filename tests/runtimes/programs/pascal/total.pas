unit total;
interface
function UpTo(last: integer): integer;
implementation
function UpTo(last: integer): integer;
var i, sum: integer;
begin
  sum := 0;
  for i := 1 to last do sum := sum + i;
  UpTo := sum;
end;
end.
