module main;
  wire [15:0] sum;
  reg [8*80:1] word;
  total counted(sum);
  initial begin
    #1 $display("%0d", sum);
    if ($fscanf(32'h8000_0000, "%s", word) == 1) $display("%0s", word);
    $finish;
  end
endmodule
