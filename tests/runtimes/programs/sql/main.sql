.read total.sql
SELECT sum(i) FROM numbers;
