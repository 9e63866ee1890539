program main;
uses total;
var line: string;
begin
  writeln(UpTo(100));
  readln(line);
  writeln(line);
end.
