val up_to : int -> int
