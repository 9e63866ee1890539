fun total 0 = 0
  | total n = n + total (n - 1);
