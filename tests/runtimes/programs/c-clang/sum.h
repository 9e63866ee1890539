int sum(int last);
