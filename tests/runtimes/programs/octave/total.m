function sum_of_all = total(last)
  sum_of_all = sum(1:last);
end
