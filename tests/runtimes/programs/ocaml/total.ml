let rec up_to last = if last = 0 then 0 else last + up_to (last - 1)
