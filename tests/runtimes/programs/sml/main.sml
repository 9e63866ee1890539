use "total.sml";
print (Int.toString (total 100) ^ "\n");
print (Option.valOf (TextIO.inputLine TextIO.stdIn));
