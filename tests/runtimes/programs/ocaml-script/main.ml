#use "total.ml";;

let () =
  print_endline (string_of_int (up_to 100));
  print_endline (read_line ())
