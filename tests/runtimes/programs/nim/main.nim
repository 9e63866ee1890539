import total
echo upTo(100)
echo readLine(stdin)
