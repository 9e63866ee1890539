use std.textio.all;
use work.sums.all;

entity main is
end entity;

architecture test of main is
begin
  process
    variable text : line;
    variable word : line;
  begin
    write(text, total(100));
    writeline(output, text);
    readline(input, word);
    writeline(output, word);
    wait;
  end process;
end architecture;
