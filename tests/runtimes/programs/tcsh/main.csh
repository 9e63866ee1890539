source total.csh
echo $sum
set line = "$<"
echo "$line"
