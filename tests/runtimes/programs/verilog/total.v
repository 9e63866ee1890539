module total(output reg [15:0] sum);
  integer i;
  initial begin
    sum = 0;
    for (i = 1; i <= 100; i = i + 1) sum = sum + i;
  end
endmodule
